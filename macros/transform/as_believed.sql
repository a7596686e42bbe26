{#- What was believed on one day about another: two times at once, from one log of changes. A change that
    came late alters what is believed of the past from when it was known, and not what was
    believed before. So a report can be made again as it was, and the difference to today explained.
    Arguments:
      relation, keys, columns, changed_at, order_by, deleted, carry   as for scd2_from_changes;
      known_at   the column with the time from which the change is known: _committed_at, ingested_at.
                 Rows without it were never known;
      believed   SQL of a time: only what was known then counts;
      about      SQL of a time: the state that held at that moment.
    Returns: one row for each key that is believed to have been there: keys, columns, carry, and
    valid_from, valid_to as they were believed. Engines: DuckDB, Spark.
    Example: {{ lakebed.as_believed(ref('silver_saas__subscription_changes'), 'subscription_id', ['plan_id'],
             'updated_at', '_committed_at', "timestamp '2024-07-01'", "timestamp '2024-06-30'") }} -#}
{% macro as_believed(relation, keys, columns, changed_at, known_at, believed, about, order_by=none, deleted=none, carry=[]) %}
{%- set known = '(select * from ' ~ relation ~ ' where ' ~ known_at ~ ' <= ' ~ believed ~ ') as known' -%}
select
    {%- for column in ([keys] if keys is string else keys) + columns + carry %}
    {{ column }},
    {%- endfor %}
    valid_from,
    valid_to
from ({{ lakebed.scd2_from_changes(known, keys, columns, changed_at, order_by, deleted, carry=carry) }}) as history
where valid_from <= {{ about }} and {{ lakebed.before_end(about, 'valid_to') }}
{% endmacro %}
