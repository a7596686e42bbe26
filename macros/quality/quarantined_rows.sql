{#- The rows of checked_rows that silver did not take, with the reason: those that break a rule
    and, where keys are given, those that contradict the row silver holds under the same key
    (`conflicting_duplicate`). A row equal to the one in silver is an exact duplicate and is in
    neither; so bronze = silver + quarantine + exact duplicates.
    Arguments: checked, a relation or CTE; silver, the relation built before; keys, a list.
    Returns: a select with the columns of checked. Engines: DuckDB, Spark. -#}
{% macro quarantined_rows(checked, silver=none, keys=[]) %}
select * from {{ checked }}
where broken_rules is not null
{%- if silver and keys %}
union all
select
    {{ lakebed.star_except(['broken_rules'], 'checked') }},
    'conflicting_duplicate' as broken_rules
from {{ checked }} as checked
inner join {{ silver }} as silver
    on {% for key in keys %}checked.{{ key }} = silver.{{ key }}{{ " and " if not loop.last }}{% endfor %}
where checked.broken_rules is null and checked._row_hash != silver._row_hash
{%- endif %}
{% endmacro %}
