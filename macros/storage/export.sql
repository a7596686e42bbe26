{#- The part of `lakebed export` that an engine does: a table's rows as it is at one version, or some of
    them, as Parquet, read back and compared. Prints a line of JSON: what the manifest says of them.
    Arguments: relation, or `schema.table`; folder, an absolute path that is not there yet; where, a
    condition. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). -#}
{% macro export_rows(relation, folder, where=none) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- set version = lakebed.newest_version(table) -%}
        {%- set columns = [] -%}
        {%- for column in adapter.get_columns_in_relation(table) -%}{%- do columns.append({'name': column.name, 'type': column.dtype}) -%}{%- endfor -%}
        {%- set rows = 'select * from ' ~ lakebed.version_sql(table, version, none) ~ (' where ' ~ where if where else '') -%}
        {%- do lakebed.write_parquet(rows, folder) -%}
        {%- set digest = lakebed.rows_digest(rows, columns) -%}
        {%- if lakebed.rows_digest('select * from ' ~ lakebed.parquet_files(folder), columns) != digest -%}
            {{ exceptions.raise_compiler_error("Lakebed: the rows of " ~ table.schema ~ "." ~ table.identifier ~ " are not the same in Parquet (a type that it does not have?); nothing was exported.") }}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson({'table': table.schema ~ '.' ~ table.identifier, 'engine': target.type, 'version': version, 'where': where, 'exported_at': lakebed.as_of_text(), 'columns': columns, 'rows': digest[0], 'digest': digest[1]})) -%}
    {%- endif -%}
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
