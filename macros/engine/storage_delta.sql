{#- The storage verbs on Delta. -#}

{% macro delta_table_health(relation) %}
    {%- set detail = run_query('describe detail ' ~ relation).rows[0] -%}
    {%- set files, bytes = detail['numFiles'] | int, detail['sizeInBytes'] | int -%}
    {%- set versions = run_query('describe history ' ~ relation).rows | length -%}
    {{- return({'table': relation.schema ~ '.' ~ relation.identifier, 'files': files, 'bytes': bytes, 'mean_bytes': (bytes / [files, 1] | max) | int, 'files_with_deletes': none, 'versions': versions}) -}}
{% endmacro %}

{% macro delta_compact(relation, where, target_mb) %}
    {%- do run_query('set spark.databricks.delta.optimize.maxFileSize = ' ~ target_mb * 1000000) -%}
    {%- do run_query('optimize ' ~ relation ~ (' where ' ~ where if where else '')) -%}
{% endmacro %}

{% macro delta_compact_sorted(relation, columns, target_mb) %}
    {%- do run_query('set spark.databricks.delta.optimize.maxFileSize = ' ~ target_mb * 1000000) -%}
    {%- do run_query('optimize ' ~ relation ~ ' zorder by (' ~ columns ~ ')') -%}
{% endmacro %}

{% macro delta_newest_version(relation) %}
    {{- return(run_query('describe history ' ~ relation ~ ' limit 1').rows[0]['version'] | int) -}}
{% endmacro %}

{% macro delta_changes_sql(relation, first, last) -%}
    {%- if execute -%}{%- do lakebed.check_version_order(first, last) -%}{%- endif -%}
    select _change_type, _commit_version as _change_version, _commit_version as _change_order, * except (_change_type, _commit_version, _commit_timestamp)
    from table_changes({{ lakebed.text_literal(relation.schema ~ '.' ~ relation.identifier) }}, {{ first + 1 if last > first else last }}, {{ last }})
    where _commit_version > {{ first }}
{%- endmacro %}

{% macro delta_restore_rows(relation, old) %}
    {%- do run_query('restore table ' ~ old | replace(relation | string, relation ~ ' to')) -%}
{% endmacro %}

{% macro delta_restore_interval(relation, old, condition) %}
    {%- do run_query('insert into ' ~ relation ~ ' replace where ' ~ condition ~ ' select * from ' ~ old ~ ' where ' ~ condition) -%}
{% endmacro %}

{% macro delta_expire(days, tables, dry_run) %}
    {%- if load_relation(lakebed.tags()) -%}
        {%- set old = run_query('select table_schema, table_name, name from ' ~ lakebed.tags() ~ ' where tagged_at < ' ~ lakebed.as_of() ~ ' - make_interval(0, 0, 0, ' ~ days ~ ')').rows -%}
        {%- for table in tables -%}
            {%- for row in old if row[0] == table.schema and row[1] == table.identifier -%}
                {{ exceptions.raise_compiler_error("Lakebed: " ~ row[0] ~ "." ~ row[1] ~ " has a tag '" ~ row[2] ~ "' older than " ~ days ~ " days, which Delta cannot keep alone. Keep more days, or untag it. Nothing was expired.") }}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set files = [] -%}
    {%- for table in tables -%}
        {%- set rows = run_query('vacuum ' ~ table ~ ' retain ' ~ [days * 24, 168] | max ~ ' hours' ~ (' dry run' if dry_run else '')).rows -%}
        {%- if dry_run -%}{%- do files.extend(rows) -%}{%- endif -%}
    {%- endfor -%}
    {%- do print(tables | length ~ (' tables would be vacuumed of ' ~ files | length ~ ' files' if dry_run else ' tables vacuumed')) -%}
{% endmacro %}
