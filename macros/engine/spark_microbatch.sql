{#- A microbatch on Spark: the rows of the batch's interval are exchanged for the new ones, by one merge,
    which is one commit on Delta and on Iceberg. dbt-spark overwrites partitions instead
    (dbt-labs/dbt-spark#1109): a batch that has no rows any more keeps its old ones, and a
    partition larger than a batch loses what other batches wrote. Here partition_by is free.
    Arguments: target, a relation; source, the batch's rows. Returns: SQL. Engine: Spark. -#}
{% macro spark_microbatch_sql(target, source) %}
    {%- set event_time = config.get('event_time') -%}
    {%- set batch = model.get('batch') or {} -%}
    {%- if not event_time or not batch.get('event_time_start') or not batch.get('event_time_end') -%}
        {{ exceptions.raise_compiler_error("Lakebed: microbatch needs the config event_time, and a batch that dbt gives it.") }}
    {%- endif -%}
    {%- if config.get('unique_key') -%}
        {{ exceptions.raise_compiler_error("Lakebed: microbatch exchanges the rows of an interval, and takes no unique_key.") }}
    {%- endif -%}
    {%- set names = adapter.get_columns_in_relation(target) | map(attribute='name') | list -%}
    {%- set within -%}
        >= timestamp'{{ batch.event_time_start }}' and {{ event_time }} < timestamp'{{ batch.event_time_end }}'
    {%- endset %}
merge into {{ target }} as target
using (
    select cast(null as boolean) as _old, {{ event_time }} as _old_time, {{ lakebed.quoted_columns(names) }}
    from {{ source }}
    where {{ event_time }} {{ within }}
    union all
    select true as _old, {{ event_time }} as _old_time, {% for name in names %}null as {{ adapter.quote(name) }}{{ ', ' if not loop.last }}{% endfor %}
    from (select distinct {{ event_time }} from {{ target }} where {{ event_time }} {{ within }})
) as source
on source._old and target.{{ event_time }} = source._old_time
    and target.{{ event_time }} >= timestamp'{{ batch.event_time_start }}'
    and target.{{ event_time }} < timestamp'{{ batch.event_time_end }}'
when matched then delete
when not matched and source._old is null
    then insert ({{ lakebed.quoted_columns(names) }}) values ({{ lakebed.quoted_columns(names, 'source') }})
{% endmacro %}
