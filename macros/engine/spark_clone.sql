{#- `dbt clone` on Spark: a Delta table becomes a shallow clone (new log, the same files). Iceberg has no
    clones, where dbt-spark fails; there it is a view, as on DuckDB. A build makes a table of a view
    in either case. A project that installs Lakebed and clones Iceberg tables copies this file: dbt takes
    a materialization of its own name from the project only. -#}
{% materialization clone, adapter='spark' %}
    {{- return(materialization_clone_default()) -}}
{% endmaterialization %}

{% macro spark__can_clone_table() %}{{- return(config.get('file_format') == 'delta') -}}{% endmacro %}
