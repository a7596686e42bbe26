{#- Spans of event time that are to be run anew, because events of them came late: the batches of
    microbatch models with meta.watermark.late: reprocess. `lakebed backfill`, or a run with
    --event-time-start and --event-time-end, runs them, and then they are no longer there. -#}
{% macro late_spans() -%}
    {{- return(lakebed.ops_relation('late_spans')) -}}
{%- endmacro %}

{#- Notes the batches of a microbatch model that late rows belong to; each row counts once. -#}
{% macro late_spans_sql(rows, spec, anew) %}
    {%- set size = config.get('batch_size') or model.config.batch_size -%}
    {%- set start = lakebed.start_of_datepart(size, 'late.' ~ spec.column) %}
merge into {{ lakebed.late_spans() }} as held
using (
    select
        {{ start }} as starts_at,
        count(*) as late_rows,
        max(late._batch_id) as batch
    from (
        select
            {{ spec.column }},
            _batch_id
        from {{ rows }}
        where {{ lakebed.watermark_rows(anew) }} and {{ lakebed.is_late(spec) }}
    ) as late
    left join {{ lakebed.late_spans() }} as noted
        on noted.model = '{{ model.name }}' and noted.starts_at = {{ start }}
    where late._batch_id > coalesce(noted.batch, 0)
    group by {{ start }}
) as late
on held.model = '{{ model.name }}' and held.starts_at = late.starts_at
when matched then update set late_rows = held.late_rows + late.late_rows, batch = late.batch
when not matched then insert (model, starts_at, ends_at, late_rows, batch)
    values ('{{ model.name }}', late.starts_at, {{ lakebed.add_dateparts(size, 1, 'late.starts_at') }}, late.late_rows, late.batch)
{% endmacro %}

{#- Takes off the spans that this run has run anew: of models of which every batch went through.
    Run once a build, by on-run-end. Arguments: results, dbt's. Engines: DuckDB, Spark.
    Example: on-run-end: "{{ lakebed.settle_late_spans(results) }}" -#}
{% macro settle_late_spans(results) %}
    {%- set start, end = invocation_args_dict.get('event_time_start'), invocation_args_dict.get('event_time_end') -%}
    {%- if execute and start and end and flags.WHICH in ['run', 'build'] -%}
        {%- set ns = namespace(deleted=false) -%}
        {%- for result in results if result.status == 'success' and (result.node.config.get('meta') or {}).get('watermark', {}).get('late') == 'reprocess' -%}
            {%- do run_query(
                'delete from ' ~ lakebed.late_spans() ~ " where model = '" ~ result.node.name ~ "'"
                ~ " and starts_at >= cast('" ~ (start | string)[:19] ~ "' as timestamp) and ends_at <= cast('" ~ (end | string)[:19] ~ "' as timestamp)"
            ) -%}
            {%- set ns.deleted = true -%}
        {%- endfor -%}
        {%- if ns.deleted -%}{%- do lakebed.commit() -%}{%- endif -%}
    {%- endif -%}
{% endmacro %}
