{#- dbt's snapshots ask this one for the columns of a deletion's record, and dbt-spark's answers in
    rows without names: the record came out with nothing but NULLs (dbt-labs/dbt-adapters, issue
    1401). On Delta and on Iceberg. -#}
{% macro spark__get_columns_in_relation(relation) -%}
    {{- return(adapter.get_columns_in_relation(relation)) -}}
{% endmacro %}

{#- The name of a snapshot's staging view is dbt-spark's name of a model's temporary one too, and on
    Iceberg neither has a schema: a snapshot read the model of its name. -#}
{% macro spark_build_snapshot_staging_table(strategy, sql, target_relation) %}
    {%- set staging = api.Relation.create(
        identifier=target_relation.identifier ~ '__dbt_snapshot',
        schema=none if target_relation.is_iceberg else target_relation.schema,
        database=none,
        type='view'
    ) -%}
    {% call statement('build_snapshot_staging_relation') %}
        {{ create_view_as(staging, snapshot_staging_table(strategy, sql, target_relation)) }}
    {% endcall %}
    {{- return(staging) -}}
{% endmacro %}
