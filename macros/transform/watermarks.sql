{#- How far event time has come, for each model that says so in its YAML:
      config:
        post_hook: "{{ lakebed.advance_watermark() }}"
        meta:
          watermark: {column: event_time, delay: 10 minutes, late: update}
    column (event_time by default) is when it happened; delay is the bound of disorder: an event that
    comes no more than that after a newer one of its partition is on time. late says what
    becomes of the others: see late_rows.sql. idle (none by default): a partition whose newest event
    is older than the newest of all by more than that holds nobody up.
    `ops.watermarks` has a row for each partition and one for all of them ('*'):
      seen_until  the newest event time of valid events; of '*' the newest of all;
      watermark   seen_until less delay; of '*' that of the slowest partition that is not idle. It
                  never goes back;
      late_rows   how many of the model's rows came late, whatever became of them;
      batch       up to which batch of the source that is.
    A watermark moves in the transaction of the rows (DuckDB). Spark has no such transaction: there it
    moves after them, by one merge that knows which batches it has seen, so that whatever is
    killed the next build catches up, and counts nothing twice. -#}

{% macro watermarks() -%}
    {{- return(lakebed.ops_relation('watermarks')) -}}
{%- endmacro %}

{#- Makes the tables of watermarks, where a model has one. Run once a build, by on-run-start. -#}
{% macro create_watermarks() %}
    {%- if execute and flags.WHICH in ['run', 'build'] -%}
    {%- set ns = namespace(wanted=false) -%}
    {%- for node in graph.nodes.values() if (node.config.get('meta') or {}).get('watermark') -%}{%- set ns.wanted = true -%}{%- endfor -%}
    {%- if ns.wanted -%}
        {%- set text = dbt.type_string() -%}
        {%- do adapter.create_schema(lakebed.watermarks().without_identifier()) -%}
        {%- do run_query('create table if not exists ' ~ lakebed.watermarks() ~ ' (model ' ~ text ~ ', source ' ~ text ~ ', source_partition ' ~ text ~ ', seen_until timestamp, watermark timestamp, late_rows bigint, batch bigint)' ~ lakebed.using_format('model')) -%}
        {%- do run_query('create table if not exists ' ~ lakebed.late_spans() ~ ' (model ' ~ text ~ ', starts_at timestamp, ends_at timestamp, late_rows bigint, batch bigint)' ~ lakebed.using_format('model')) -%}
        {%- do lakebed.commit() -%}
    {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- Each row with how far its partition had come before it: `_seen_until`, the newest event time of the
    rows before it in the order of the partition, NULL for the first. A property of the row and
    its partition's log: the same however the rows were split into batches and builds, so that
    being late is, too. For a model with `advance_watermark()`, before it deduplicates.
    Arguments: relation, the model's new rows (a relation or the name of a CTE), valid ones only: one
    clock that is years ahead would make all others late; with _topic, _topic_partition, _offset, _batch_id.
    Returns: a select of it and _seen_until. Engines: DuckDB, Spark.
    Example: {{ lakebed.with_seen_until('valid') }} -#}
{% macro with_seen_until(relation) %}
{%- set spec = lakebed.watermark_spec() -%}
select
    new_row.*,
    greatest(
        max(new_row.{{ spec.column }}) over (
            partition by new_row._topic, new_row._topic_partition
            order by new_row._batch_id, new_row._offset
            rows between unbounded preceding and 1 preceding
        ),
        {% if is_incremental() %}seen_before.seen_until{% else %}cast(null as timestamp){% endif %}
    ) as _seen_until
from {{ relation }} as new_row
{%- if is_incremental() %}
{#- What a build wrote that was killed before its watermark moved (Spark) is in the table. #}
left join (
    select
        source_partition,
        max(seen_until) as seen_until
    from (
        select
            source_partition,
            seen_until
        from {{ lakebed.watermarks() }}
        where model = '{{ model.name }}' and source_partition != '*'
        union all
        select
            {{ lakebed.source_partition() }} as source_partition,
            {{ spec.column }} as seen_until
        from {{ this }}
        where _batch_id > {{ lakebed.watermark_batch() }}
    ) as seen
    group by source_partition
) as seen_before on {{ lakebed.source_partition('new_row') }} = seen_before.source_partition
{%- endif %}
{% endmacro %}

{#- Post-hook of a model with meta.watermark: its watermarks move up to the rows that it has read, late
    ones are counted, and with `late: reprocess` the spans they belong to are noted.
    Arguments: of, the name of the parent whose rows have the event time and _seen_until; none: the
    model's own rows have. Engines: DuckDB, Spark.
    Example: post_hook: "{{ lakebed.advance_watermark('silver_web__clicks') }}" -#}
{% macro advance_watermark(of=none) %}
{%- if execute -%}
    {%- set spec = lakebed.watermark_spec() -%}
    {%- set found = namespace(rows=this, source=none) -%}
    {%- for id in model.depends_on.nodes -%}
        {%- set node = graph.nodes.get(id) or graph.sources.get(id) -%}
        {%- if node and (node.name == of if of else node.name.startswith('bronze_') or node.config.get('meta', {}).get('stream')) -%}
            {%- set found.source = node.name -%}
            {%- if of -%}
                {%- set found.rows = api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias or node.identifier) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not found.source -%}
        {{ exceptions.raise_compiler_error("Lakebed: advance_watermark() of " ~ model.name ~ " must name a parent of the model; it has " ~ model.depends_on.nodes | join(', ')) }}
    {%- endif -%}
    {#- A table that is made anew is counted anew; the watermark itself never goes back. -#}
    {%- set anew = model.config.materialized != 'incremental' or should_full_refresh() -%}
    {%- if spec.late == 'reprocess' -%}{%- do run_query(lakebed.late_spans_sql(found.rows, spec, anew)) -%}{%- endif -%}
merge into {{ lakebed.watermarks() }} as held
using (
    select * from (
        select
            case when grouping(source_partition) = 1 then '*' else source_partition end as marked,
            max(seen_until) as seen_until,
            {{ lakebed.add_dateparts('second', -spec.delay, 'case when grouping(source_partition) = 1 then min(active_until) else max(seen_until) end') }} as watermark,
            cast(sum(late_rows) as bigint) as late_rows,
            max(batch) as batch
        from (
            select
                source_partition,
                seen_until,
                late_rows,
                max(batch) over () as batch,
                {%- if spec.idle %}
                case when seen_until >= {{ lakebed.add_dateparts('second', -spec.idle, 'max(seen_until) over ()') }} then seen_until end as active_until
                {%- else %}
                seen_until as active_until
                {%- endif %}
            from (
                select source_partition, max(seen_until) as seen_until, sum(late_rows) as late_rows, max(batch) as batch
                from (
                    select source_partition, seen_until, {{ '0 as ' if anew }}late_rows, cast(null as bigint) as batch
                    from {{ lakebed.watermarks() }}
                    where model = '{{ model.name }}' and source = '{{ found.source }}' and source_partition != '*'
                    union all
                    select
                        {{ lakebed.source_partition() }} as source_partition,
                        {{ spec.column }} as seen_until,
                        case when {{ lakebed.is_late(spec) }} then 1 else 0 end as late_rows,
                        _batch_id as batch
                    from {{ found.rows }}
                    where {{ lakebed.watermark_rows(anew) }}
                ) as seen
                group by source_partition
            ) as known
        ) as compared
        where batch is not null
        group by grouping sets ((source_partition), ())
    ) as marks
    where batch is not null
) as moved
on held.model = '{{ model.name }}' and held.source = '{{ found.source }}' and held.source_partition = moved.marked
when matched then update set
    seen_until = moved.seen_until,
    watermark = greatest(held.watermark, moved.watermark),
    late_rows = moved.late_rows,
    batch = moved.batch
when not matched then insert (model, source, source_partition, seen_until, watermark, late_rows, batch)
    values ('{{ model.name }}', '{{ found.source }}', moved.marked, moved.seen_until, moved.watermark, moved.late_rows, moved.batch)
{%- endif -%}
{% endmacro %}

{#- The watermark of a model, all its partitions: what is older is complete, but for what comes late.
    Arguments: name, a model's name. Returns: SQL expression of type timestamp; NULL before there is
    one. Engines: DuckDB, Spark.
    Example: where minute_start_at < {{ lakebed.watermark('agg_web_minutes') }} -#}
{% macro watermark(name) -%}
    (select min(watermark) from {{ lakebed.watermarks() }} where model = '{{ name }}' and source_partition = '*')
{%- endmacro %}

{% macro source_partition(alias=none) -%}
    {%- set of = alias ~ '.' if alias else '' -%}
    concat({{ of }}_topic, '/', cast({{ of }}_topic_partition as {{ dbt.type_string() }}))
{%- endmacro %}

{% macro watermark_batch() -%}
    (select coalesce(max(batch), 0) from {{ lakebed.watermarks() }} where model = '{{ model.name }}')
{%- endmacro %}

{#- Condition: rows that no watermark of this model has seen; on Spark a source may hold newer ones
    than the model has read. -#}
{% macro watermark_rows(anew) -%}
    _batch_id > {{ '0' if anew else lakebed.watermark_batch() }}
    and _batch_id <= (select coalesce(min(batch), 9223372036854775807) from {{ lakebed.positions() }} where model = '{{ model.name }}')
{%- endmacro %}
