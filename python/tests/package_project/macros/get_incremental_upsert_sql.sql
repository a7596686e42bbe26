{#- dbt looks for an incremental strategy in the project itself, not in what it installs. -#}
{% macro get_incremental_upsert_sql(arg_dict) %}
    {% do return(lakebed.get_incremental_upsert_sql(arg_dict)) %}
{% endmacro %}
