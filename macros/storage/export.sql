{#- The part of `lakebed export` that an engine does: a table's rows as it is at one version, or some of
    them, as Parquet, read back and compared. Prints a line of JSON: what the manifest says of them.
    Arguments: relation, or `schema.table`; folder, an absolute path that is not there yet; where, a
    condition; place, the folder that the lake knows the export by. Engines: DuckDB (DuckLake), Spark
    (Delta, Iceberg). -#}
{% macro export_rows(relation, folder, where=none, place=none) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- set version = lakebed.newest_version(table) -%}
        {%- set columns = [] -%}
        {%- for column in adapter.get_columns_in_relation(table) -%}{%- do columns.append({'name': column.name, 'type': column.dtype}) -%}{%- endfor -%}
        {%- set rows = 'select * from ' ~ lakebed.version_sql(table, version, none) ~ (' where ' ~ where if where else '') -%}
        {%- do lakebed.know_export(table.schema ~ '.' ~ table.identifier, place or folder) -%}
        {%- set digest = lakebed.write_checked(rows, columns, folder) -%}
        {%- if not digest -%}
            {{ exceptions.raise_compiler_error("Lakebed: the rows of " ~ table.schema ~ "." ~ table.identifier ~ " are not the same in Parquet (a type that it does not have?); nothing was exported.") }}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson({'table': table.schema ~ '.' ~ table.identifier, 'engine': target.type, 'version': version, 'where': where, 'exported_at': lakebed.as_of_text(), 'columns': columns, 'rows': digest[0], 'digest': digest[1]})) -%}
    {%- endif -%}
{% endmacro %}

{#- Rows as Parquet files, read back. Returns: their digest, [number, text]; none when they differ. -#}
{% macro write_checked(rows, columns, folder) %}
    {%- do lakebed.write_parquet(rows, folder) -%}
    {%- set digest = lakebed.rows_digest(rows, columns) -%}
    {{- return(digest if lakebed.rows_digest('select * from ' ~ lakebed.parquet_files(folder), columns) == digest else none) -}}
{% endmacro %}

{#- Where copies of tables lie: an erasure must find them. -#}
{% macro exports() -%}
    {{- return(lakebed.ops_relation('exports')) -}}
{%- endmacro %}

{#- Known before it is written: of one that is killed something may be there. -#}
{% macro know_export(table, folder) %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.exports().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.exports() ~ ' (table_name ' ~ text ~ ', folder ' ~ text ~ ', exported_at timestamp)' ~ lakebed.using_format()) -%}
    {%- do lakebed.commit() -%}
    {%- do lakebed.forget_export(folder) -%}
    {%- do run_query('insert into ' ~ lakebed.exports() ~ ' values (' ~ lakebed.text_literal(table) ~ ', ' ~ lakebed.text_literal(folder) ~ ', ' ~ lakebed.as_of() ~ ')') -%}
    {%- do lakebed.commit() -%}
{% endmacro %}

{#- Takes an export that is gone out of `ops.exports`. Returns: whether it was there, 1 or 0. -#}
{% macro forget_export(folder) %}
    {%- set found = 0 -%}
    {%- if load_relation(lakebed.exports()) -%}
        {%- set theirs = ' from ' ~ lakebed.exports() ~ ' where folder = ' ~ lakebed.text_literal(folder) -%}
        {%- set found = run_query('select count(*)' ~ theirs).rows[0][0] | int -%}
        {%- if found -%}
            {%- do run_query('delete' ~ theirs) -%}
            {%- do lakebed.commit() -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(found) -}}
{% endmacro %}

{#- Prints the exports that the lake knows of, after it has forgotten one, as a line of JSON. -#}
{% macro known_exports(forget=none) %}
    {%- set forgotten = lakebed.forget_export(forget) if forget else 0 -%}
    {%- set found = [] -%}
    {%- if load_relation(lakebed.exports()) -%}
        {%- for row in run_query('select table_name, folder, ' ~ lakebed.to_text('exported_at') ~ ' from ' ~ lakebed.exports() ~ ' order by folder').rows -%}
            {%- do found.append({'table': row[0], 'folder': row[1], 'exported_at': row[2]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- do print('LAKEBED ' ~ tojson({'exports': found, 'forgotten': forgotten})) -%}
{% endmacro %}

{#- The part of `lakebed import` that an engine does: a new table from files whose checksums were right.
    The rows must be those of the manifest, or there is no table. Arguments: relation, a `schema.table` that is
    not there; folder, the Parquet files'; manifest, what export_rows printed. -#}
{% macro import_rows(relation, folder, manifest) %}
    {%- if execute -%}
        {%- set parts = relation.split('.') -%}
        {%- if parts | length != 2 -%}
            {{ exceptions.raise_compiler_error("Lakebed: '" ~ relation ~ "' does not name a table: write schema.table, e.g. gold.fct_baskets.") }}
        {%- endif -%}
        {%- set new = api.Relation.create(database=target.get('database'), schema=parts[0], identifier=parts[1]) -%}
        {%- if load_relation(new) -%}
            {{ exceptions.raise_compiler_error("Lakebed: there is a table " ~ relation ~ " already; nothing was imported.") }}
        {%- endif -%}
        {%- if manifest.engine != target.type -%}
            {{ exceptions.raise_compiler_error("Lakebed: this export was made by " ~ manifest.engine ~ ", and types are not the same here; nothing was imported.") }}
        {%- endif -%}
        {%- do adapter.create_schema(new.without_identifier()) -%}
        {%- do lakebed.commit() -%}
        {%- do lakebed.import_checked(new, lakebed.parquet_files(folder), manifest.columns, [manifest.rows, manifest.digest]) -%}
        {%- do print('LAKEBED ' ~ tojson({'rows': manifest.rows})) -%}
    {%- endif -%}
{% endmacro %}
