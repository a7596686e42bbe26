{#- dbt-spark refuses every incremental strategy that it does not know by name. These two macros
    take the places of its own (a project's macros win over an adapter's), and add:
      upsert         ours;
      append         of batches (a column _batch_id, or the one that meta.batch_column names): only
                     those that the table does not hold. The statement reads what it adds to, so
                     that of two builds that load a batch at once the later one conflicts in
                     Delta, or has nothing to add;
      delete+insert  as a merge, so that it is one transaction: unique_key must be unique in the
                     model's rows, which Delta checks for those that are there already;
      microbatch     the rows of an interval, not of partitions: see spark_microbatch.sql.
    A project that installs Lakebed for `upsert` on Spark copies this file. -#}
{% macro dbt_spark_validate_get_incremental_strategy(raw_strategy, file_format) %}
    {%- set known = ['append', 'merge', 'upsert', 'delete+insert', 'insert_overwrite', 'microbatch'] -%}
    {%- if raw_strategy not in known -%}
        {{ exceptions.raise_compiler_error("Lakebed: no incremental strategy '" ~ raw_strategy ~ "' on Spark; there are " ~ known | join(', ') ~ ".") }}
    {%- endif -%}
    {%- if raw_strategy in ['merge', 'upsert', 'delete+insert'] and file_format not in ['delta', 'iceberg', 'hudi'] -%}
        {{ exceptions.raise_compiler_error("Lakebed: the strategy '" ~ raw_strategy ~ "' needs file_format delta, iceberg or hudi, not '" ~ file_format ~ "'.") }}
    {%- endif -%}
    {{- return(raw_strategy) -}}
{% endmacro %}

{% macro dbt_spark_get_incremental_sql(strategy, source, target, existing, unique_key, incremental_predicates) %}
    {%- set source = lakebed.checked_rows_of(source) -%}
    {%- if strategy == 'append' -%}
        {{ lakebed_spark_append_sql(source, target) }}
    {%- elif strategy == 'insert_overwrite' -%}
        {{ get_insert_overwrite_sql(source, target, existing) }}
    {%- elif strategy == 'microbatch' -%}
        {{ lakebed.spark_microbatch_sql(target, source) }}
    {%- elif strategy == 'upsert' -%}
        {{ lakebed.get_incremental_upsert_sql({
            'target_relation': target,
            'temp_relation': source,
            'unique_key': unique_key,
            'dest_columns': adapter.get_columns_in_relation(target),
            'incremental_predicates': incremental_predicates,
        }) }}
    {%- else -%}
        {{ get_merge_sql(target, source, unique_key, dest_columns=none, incremental_predicates=incremental_predicates) }}
    {%- endif -%}
{% endmacro %}

{% macro lakebed_spark_append_sql(source, target) %}
    {%- set columns = adapter.get_columns_in_relation(target) | map(attribute='name') | list -%}
    {%- set batch = config.get('meta', {}).get('batch_column', '_batch_id') -%}
    {%- set names = columns | map('tojson') | join(', ') | replace('"', '`') %}
    insert into {{ target }} ({{ names }})
    select {{ names }} from {{ source }}
    {%- if batch in columns %}
    where {{ batch }} > (select coalesce(max({{ batch }}), 0) from {{ target }})
    {%- endif -%}
{% endmacro %}
