{#- dbt's `grants`. Spark and Hive's metastore, as they come, have no GRANT: whoever may read the files may
    read the table, and Spark would end the build with a parser's stack trace. So that is said in
    one line, as dbt-duckdb does for DuckDB. A catalogue of another kind, or an extension that
    authorises (Apache Ranger, Kyuubi AuthZ), is asked as dbt-spark does. -#}
{% macro spark__apply_grants(relation, grant_config, should_revoke=True) %}
    {%- if grant_config -%}
        {%- set settings = {} -%}
        {%- for name in ['spark.sql.catalog.spark_catalog', 'spark.sql.extensions'] -%}
            {%- do settings.update({name: run_query('set ' ~ name).rows[0][1] | lower}) -%}
        {%- endfor -%}
        {%- set plain = settings['spark.sql.catalog.spark_catalog'] in ['org.apache.spark.sql.delta.catalog.deltacatalog', 'org.apache.iceberg.spark.sparksessioncatalog'] -%}
        {%- if plain and 'ranger' not in settings['spark.sql.extensions'] and 'authz' not in settings['spark.sql.extensions'] -%}
            {%- do exceptions.warn("Lakebed: the grants of " ~ relation.schema ~ "." ~ relation.identifier ~ " are not made: this Spark has no GRANT. Whoever may read the files may read the table; keep people out by the permissions of the storage (docs/layout.md).") -%}
        {%- else -%}
            {{- default__apply_grants(relation, grant_config, should_revoke) -}}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
