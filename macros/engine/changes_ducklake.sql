{#- What changed between two versions, of a DuckLake; of Iceberg see changes_iceberg.sql. -#}

{% macro changes_sql(relation, first, last) %}{{- return(adapter.dispatch('changes_sql', 'lakebed')(relation, first, last)) -}}{% endmacro %}

{#- One question a version: over several, deletes are ascribed to wrong versions once inlined rows were
    flushed, and while threads open files beside one another a delete's version is at times not found
    at all (DuckLake 1.5.5). So neither its `snapshot_id` nor `ducklake_table_changes`, which joins
    by it, is asked: within one version row ids say enough. -#}
{% macro duckdb__changes_sql(relation, first, last) -%}
    {%- set versions = [] -%}
    {%- if execute -%}
        {%- do lakebed.check_version_order(first, last) -%}
        {%- set metadata = adapter.quote('__ducklake_metadata_' ~ relation.database) -%}
        {%- set known = run_query(
            'select tables.table_id, min(began.begin_snapshot) from ' ~ metadata ~ '.ducklake_table as tables'
            ~ ' inner join ' ~ metadata ~ '.ducklake_schema as schemas on tables.schema_id = schemas.schema_id and schemas.end_snapshot is null'
            ~ ' inner join ' ~ metadata ~ '.ducklake_table as began on tables.table_id = began.table_id'
            ~ ' where tables.end_snapshot is null and schemas.schema_name = ' ~ lakebed.text_literal(relation.schema) ~ ' and tables.table_name = ' ~ lakebed.text_literal(relation.identifier)
            ~ ' group by tables.table_id'
        ).rows[0] -%}
        {%- if first < known[1] -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " is there since version " ~ known[1] ~ " (a full rebuild makes a table anew): its changes start after that, not after " ~ first ~ ".") }}
        {%- endif -%}
        {%- set versions = run_query(
            'select snapshot_id from ducklake_snapshots(' ~ lakebed.text_literal(relation.database) ~ ') where snapshot_id > ' ~ first ~ ' and snapshot_id <= ' ~ last
            ~ " and list_contains(flatten([coalesce(changes[kind], []) for kind in ['tables_inserted_into', 'tables_deleted_from', 'inlined_insert', 'inlined_delete']]), '" ~ known[0] ~ "') order by 1"
        ).columns[0].values() | map('int') | list -%}
    {%- endif -%}
    {%- for version in versions -%}
        {{ lakebed.ducklake_changes(relation, version) }}{{ '\nunion all by name\n' if not loop.last }}
    {%- else -%}
        select * from ({{ lakebed.ducklake_changes(relation, last) }}) where false
    {%- endfor -%}
{%- endmacro %}

{#- Rows that came and went in one version. -#}
{% macro ducklake_changes(relation, version) -%}
    {%- set at = '(' ~ lakebed.text_literal(relation.database) ~ ', ' ~ lakebed.text_literal(relation.schema) ~ ', ' ~ lakebed.text_literal(relation.identifier) ~ ', ' ~ version ~ ', ' ~ version ~ ')' -%}
    {%- set came, went = 'ducklake_table_insertions' ~ at, 'ducklake_table_deletions' ~ at -%}
    {%- set number = 'cast(' ~ version ~ ' as bigint)' -%}
    select if(rowid in (select rowid from {{ went }}), 'update_postimage', 'insert') as _change_type, {{ number }} as _change_version, {{ number }} as _change_order, * from {{ came }}
    union all by name
    select if(rowid in (select rowid from {{ came }}), 'update_preimage', 'delete') as _change_type, {{ number }} as _change_version, {{ number }} as _change_order, * from {{ went }}
{%- endmacro %}

{#- For formats whose versions are counted. -#}
{% macro check_version_order(first, last) %}
    {%- if first > last -%}
        {{ exceptions.raise_compiler_error("Lakebed: changes_between goes from an older version to a newer one, not from " ~ first ~ " to " ~ last ~ ".") }}
    {%- endif -%}
{% endmacro %}
