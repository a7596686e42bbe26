{#- Drops repeats of a key that come within a window of time.
    Arguments:
      relation        a relation, or the name of a CTE;
      keys            a list of columns or SQL expressions (a string is one key);
      event_time      a timestamp column, UTC;
      window_seconds  a whole number of seconds, at least 1;
      mode            'gap' (default): a row is a repeat when another row of its key came at most
                      window_seconds before it, be that one a repeat itself. The first of each burst
                      stays, so a key that never pauses is kept once.
                      'tumbling': the first row of each key in each window stays. Windows begin at
                      whole multiples of window_seconds since 1970-01-01 UTC, so at most one row
                      a window, but two rows on both sides of a border both stay;
      order_by        a SQL ordering or a list, between rows of one event time; then all columns;
      null_keys       as in deduplicate: 'keep_all' (default) or 'group'.
    A row without event_time is never a repeat, nor makes one.
    Why these two: 'within the window since the last row that was kept' depends on each decision
    before it, which no window function can say; it would need a loop over the rows. Both modes
    here are one pass, and a late row changes only its neighbours.
    Returns: a select of the relation's columns. Engines: DuckDB, Spark.
    Example: {{ lakebed.deduplicate_within('events', ['device_id'], 'event_time', 60) }} -#}
{% macro deduplicate_within(relation, keys, event_time, window_seconds, mode='gap', order_by=none, null_keys='keep_all') %}
{%- set keys = [keys] if keys is string else keys -%}
{%- set orders = lakebed.ordering(lakebed.order_terms(order_by)) -%}
{%- if mode not in ['gap', 'tumbling'] or null_keys not in ['keep_all', 'group'] or not keys -%}
    {{ exceptions.raise_compiler_error("Lakebed: deduplicate_within needs keys, mode 'gap' or 'tumbling' (not '" ~ mode ~ "') and null_keys 'keep_all' or 'group' (not '" ~ null_keys ~ "').") }}
{%- endif -%}
{%- if window_seconds is not integer or window_seconds < 1 -%}
    {{ exceptions.raise_compiler_error("Lakebed: deduplicate_within needs whole window_seconds of at least 1, not " ~ window_seconds ~ ".") }}
{%- endif -%}
{%- set micros = lakebed.epoch_micros(event_time) -%}
{%- set window = window_seconds * 1000000 -%}
{%- set order = ([event_time] + orders + [lakebed.whole_row('_row')]) | join(', ') -%}
select {{ lakebed.star_except(['_repeats']) }}
from (
    select
        *,
        {%- if mode == 'gap' %}
        {{ micros }} - lag({{ micros }}) over (
            partition by {{ keys | join(', ') }}, {{ event_time }} is null
            order by {{ order }}
        ) <= {{ window }} as _repeats
        {%- else %}
        {#- The inner remainder has the sign of the time; the outer one makes it positive. #}
        row_number() over (
            partition by
                {{ keys | join(', ') }},
                {{ micros }} - ({{ micros }} % {{ window }} + {{ window }}) % {{ window }}
            order by {{ order }}
        ) > 1 as _repeats
        {%- endif %}
    from {{ relation }} as _row
) as judged
where not coalesce(_repeats, false)
    or {{ event_time }} is null
    {%- if null_keys == 'keep_all' %}
    {%- for key in keys %}
    or {{ key }} is null
    {%- endfor %}
    {%- endif %}
{% endmacro %}
