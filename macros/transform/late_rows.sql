{#- What becomes of rows that come late, as a model's YAML says (meta.watermark.late):
      update      they are taken, and the windows that they belong to are made anew;
      drop        they are left out, and counted in ops.watermarks;
      side_table  they are left out, and are in a table of their own: a model made of `late_rows`;
      reprocess   for microbatch models: they are taken when their span is run anew; until then it is
                  noted in ops.late_spans (late_spans.sql).
    A model reads rows that know how far their partition had come before them (with_seen_until). -#}

{#- The settings of a model's watermark, checked. Arguments: name, a model; this one if none.
    Returns: {column, delay, idle, late}, delay and idle in seconds; placeholders while dbt parses. -#}
{% macro watermark_spec(name=none) %}
    {%- if not execute -%}{{- return({'column': 'event_time', 'delay': 0, 'idle': none, 'late': 'update'}) -}}{%- endif -%}
    {%- set name = name or model.name -%}
    {%- set found = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | selectattr('name', 'equalto', name) | list -%}
    {%- set meta = (found[0].config.get('meta') or {}).get('watermark') if found else none -%}
    {%- set known = ['column', 'delay', 'idle', 'late'] -%}
    {%- if meta is not mapping or meta.keys() | reject('in', known) | list -%}
        {{ exceptions.raise_compiler_error("Lakebed: the model '" ~ name ~ "' needs meta: {watermark: {column: event_time, delay: 10 minutes, late: update}}, and no other setting there than " ~ known | join(', ') ~ ".") }}
    {%- endif -%}
    {%- set late = meta.get('late', 'update') -%}
    {%- if late not in ['update', 'drop', 'side_table', 'reprocess'] -%}
        {{ exceptions.raise_compiler_error("Lakebed: meta.watermark.late of '" ~ name ~ "' is update, drop, side_table or reprocess, not '" ~ late ~ "'.") }}
    {%- endif -%}
    {%- if late == 'reprocess' and found[0].config.get('incremental_strategy') != 'microbatch' -%}
        {{ exceptions.raise_compiler_error("Lakebed: late: reprocess of '" ~ name ~ "' is for microbatch models, which can be run anew for a span; choose update.") }}
    {%- endif -%}
    {{- return({
        'column': meta.get('column', 'event_time'),
        'delay': lakebed.span_seconds(meta.get('delay'), name, 'watermark.delay'),
        'idle': lakebed.span_seconds(meta.get('idle'), name, 'watermark.idle') if meta.get('idle') else none,
        'late': late,
    }) -}}
{% endmacro %}

{% macro span_seconds(text, name, setting) %}
    {%- set match = modules.re.fullmatch('([0-9]{1,7}) (second|minute|hour|day)s?', text | string) -%}
    {%- if not match -%}
        {{ exceptions.raise_compiler_error("Lakebed: meta." ~ setting ~ " of '" ~ name ~ "' is such as 30 seconds, 10 minutes, 2 hours or 1 day, not '" ~ text ~ "'.") }}
    {%- endif -%}
    {{- return((match.group(1) | int) * {'second': 1, 'minute': 60, 'hour': 3600, 'day': 86400}[match.group(2)]) -}}
{% endmacro %}

{#- Condition: a row came late, by a spec of watermark_spec. An event at the watermark is on time. -#}
{% macro is_late(spec) -%}
    coalesce({{ spec.column }} < {{ lakebed.add_dateparts('second', -spec.delay, '_seen_until') }}, false)
{%- endmacro %}

{#- Condition: this model takes the row, by its policy. Engines: DuckDB, Spark.
    Example: where {{ lakebed.taken_rows() }} -#}
{% macro taken_rows() -%}
    {%- set spec = lakebed.watermark_spec() -%}
    {{ 'not ' ~ lakebed.is_late(spec) if spec.late in ['drop', 'side_table'] else 'true' }}
{%- endmacro %}

{#- Condition: a row is in a window that a new row is in, so that it is made anew as a whole, and
    nothing is ever added to it. For a model with `advance_position`, and a strategy that replaces
    windows (delete+insert with the window in unique_key).
    Arguments: source, the relation read; column, the event time; part, the window: second, minute, hour,
    day. Returns: a SQL condition; `true` on the first build. Engines: DuckDB, Spark.
    Example: where {{ lakebed.touched_windows(ref('silver_web__clicks'), 'event_time', 'minute') }} -#}
{% macro touched_windows(source, column, part) -%}
    {%- if not is_incremental() -%}
    true
    {%- else -%}
    {%- set start = lakebed.start_of_datepart(part, column) -%}
    {%- set new = lakebed.new_batches(source) -%}
    {#- The first condition alone would read all of the source: a file knows only its least and
        greatest times. #}
    {{ column }} >= (select min({{ start }}) from {{ source }} where {{ new }})
    and {{ start }} in (select {{ start }} from {{ source }} where {{ new }})
    {%- endif -%}
{%- endmacro %}

{#- The rows that a model left out because they came late, with how late they were: the select of an
    incremental model with strategy append and `advance_position`.
    Arguments: relation, what both read; name, the model with the policy.
    Returns: a select of relation and late_micros, microseconds behind the watermark then.
    Engines: DuckDB, Spark.
    Example: {{ lakebed.late_rows(ref('silver_web__clicks'), 'agg_web_page_minutes') }} -#}
{% macro late_rows(relation, name) %}
{%- set spec = lakebed.watermark_spec(name) -%}
select
    *,
    {{ lakebed.epoch_micros('_seen_until') }} - {{ spec.delay * 1000000 }} - {{ lakebed.epoch_micros(spec.column) }} as late_micros
from {{ relation }}
where
    {{ lakebed.is_late(spec) }}
    and {{ lakebed.new_batches(relation) }}
{% endmacro %}
