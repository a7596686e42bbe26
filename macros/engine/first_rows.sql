{#- The first row of each key, by an ordering. What deduplicate is made of: see there.
    Arguments: relation; keys, a list of SQL expressions; orders, a list from order_terms; where, a
    condition or none; keep_unknown, whether every row with a NULL in a key stays; unique_order,
    whether orders leave no ties, so that no tie has to be broken by all the columns.
    Returns: a select of the relation's columns. Engines: DuckDB, Spark. -#}
{% macro first_rows(relation, keys, orders, where, keep_unknown, unique_order) %}
    {{- return(adapter.dispatch('first_rows', 'lakebed')(relation, keys, orders, where, keep_unknown, unique_order)) -}}
{% endmacro %}

{#- DuckDB makes an aggregate of `row_number() = 1` when there is one sort expression and no other
    condition, which is two to three times as fast as sorting (python/benchmarks/deduplicate.py):
    hence one sort key, and the unknown keys apart. -#}
{% macro duckdb__first_rows(relation, keys, orders, where, keep_unknown, unique_order) %}
{%- set terms = [] -%}
{%- for term in orders -%}
    {%- do terms.append(term.expression ~ ", '" ~ term.direction ~ ' nulls ' ~ term.nulls ~ "'") -%}
{%- endfor -%}
{%- if not unique_order -%}
    {%- do terms.append(lakebed.whole_row('_row') ~ ", 'asc nulls last'") -%}
{%- endif -%}
{%- set unknown = [] -%}
{%- for key in keys %}{% do unknown.append(key ~ ' is null') %}{% endfor -%}
{%- set conditions = (['(' ~ where ~ ')'] if where else []) + (['not (' ~ unknown | join(' or ') ~ ')'] if keep_unknown else []) -%}
select {{ lakebed.star_except(['_rank']) }}
from (
    select
        *,
        row_number() over (
            partition by {{ keys | join(', ') }}
            order by create_sort_key({{ terms | join(', ') }})
        ) as _rank
    from {{ relation }} as _row
    {%- if conditions %}
    where {{ conditions | join(' and ') }}
    {%- endif %}
) as ranked
where _rank = 1
{%- if keep_unknown %}
union all
select * from {{ relation }} as _row
where {{ '(' ~ where ~ ') and ' if where }}({{ unknown | join(' or ') }})
{%- endif %}
{% endmacro %}

{% macro spark__first_rows(relation, keys, orders, where, keep_unknown, unique_order) %}
{%- set terms = lakebed.ordering(orders) + ([] if unique_order else [lakebed.whole_row('_row')]) -%}
select {{ lakebed.star_except(['_rank']) }}
from (
    select
        *,
        row_number() over (partition by {{ keys | join(', ') }} order by {{ terms | join(', ') }}) as _rank
    from {{ relation }} as _row
    {%- if where %}
    where {{ where }}
    {%- endif %}
) as ranked
where _rank = 1
    {%- if keep_unknown %}
    {%- for key in keys %}
    or {{ key }} is null
    {%- endfor %}
    {%- endif %}
{% endmacro %}
