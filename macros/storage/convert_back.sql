{#- The other direction, after a cut-over: rows that came to the table since the files had its rows are
    written to `folder`, in a folder 0, 1, ... for each partition. Prints one line of JSON: version, the
    new position; rows; gone, rows that are not there any more, which files cannot follow: then nothing
    is written; parts, the values of each partition. -#}
{% macro convert_follow(conversion, folder) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- set version = lakebed.newest_version(table) -%}
        {%- set columns = lakebed.table_columns(table) -%}
        {%- set ours = lakebed.copied_versions(table, conversion.id) -%}
        {#- Not a condition on the version: Iceberg would push it into its changelog, and fail. -#}
        {%- set times = 'sum(case ' ~ ('when _change_version in (' ~ ours | join(', ') ~ ') then 0 ' if ours else '') ~ "when _change_type in ('insert', 'update_postimage') then 1 else -1 end)" -%}
        {%- set net = 'select ' ~ columns ~ ', ' ~ times ~ ' as _times from (' ~ lakebed.changes_between(table, conversion.position, version) ~ ') as changes group by ' ~ columns ~ ' having ' ~ times ~ ' != 0' -%}
        {%- set counts = run_query('select coalesce(sum(case when _times > 0 then _times end), 0), coalesce(-sum(case when _times < 0 then _times end), 0) from (' ~ net ~ ') as net').rows[0] -%}
        {%- set found = {'version': version, 'rows': counts[0] | int, 'gone': counts[1] | int, 'parts': []} -%}
        {%- if found.rows and not found.gone -%}
            {%- do found.update(parts=lakebed.write_parts(conversion, lakebed.repeated(net, columns, '_times'), table, folder)) -%}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson(found)) -%}
    {%- endif -%}
{% endmacro %}

{#- All rows of the table, as convert_follow writes them. Prints version and parts. -#}
{% macro convert_write_all(conversion, folder) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- do lakebed.check_change_feed(table) -%}
        {%- set version = lakebed.newest_version(table) -%}
        {%- set rows = 'select ' ~ lakebed.table_columns(table) ~ ' from ' ~ lakebed.version_sql(table, version, none) -%}
        {%- do print('LAKEBED ' ~ tojson({'version': version, 'parts': lakebed.write_parts(conversion, rows, table, folder)})) -%}
    {%- endif -%}
{% endmacro %}

{#- Writes rows, and reads them back. Names of partitions leave the files and go to their folders.
    Returns: a list of the values of each part, as text. -#}
{% macro write_parts(conversion, rows, table, folder) %}
    {%- set names, values, found = [], [], [] -%}
    {%- for name in conversion.partitions -%}
        {%- do names.append(adapter.quote(name)) -%}
        {%- do values.append('cast(' ~ adapter.quote(name) ~ ' as ' ~ dbt.type_string() ~ ')') -%}
    {%- endfor -%}
    {%- set inside = [] -%}
    {%- for column in adapter.get_columns_in_relation(table) if column.name not in conversion.partitions -%}{%- do inside.append({'name': column.name, 'type': column.dtype}) -%}{%- endfor -%}
    {%- set columns = [] -%}
    {%- for column in inside -%}{%- do columns.append(adapter.quote(column.name)) -%}{%- endfor -%}
    {%- do lakebed.plain_timestamps() -%}
    {%- set keys = run_query('select distinct ' ~ values | join(', ') ~ ' from (' ~ rows ~ ') as r order by ' ~ values | join(', ')).rows if names else [[]] -%}
    {%- for key in keys -%}
        {%- set conditions = ['true'] -%}
        {%- for value in values -%}
            {%- do conditions.append(value ~ (' is null' if key[loop.index0] is none else ' = ' ~ lakebed.text_literal(key[loop.index0]))) -%}
        {%- endfor -%}
        {%- set part = 'select ' ~ columns | join(', ') ~ ' from (' ~ rows ~ ') as r where ' ~ conditions | join(' and ') -%}
        {%- do lakebed.write_parquet(part, folder ~ '/' ~ loop.index0) -%}
        {%- if lakebed.rows_digest(part, inside) != lakebed.rows_digest('select * from ' ~ lakebed.parquet_files(folder ~ '/' ~ loop.index0), inside) -%}
            {{ exceptions.raise_compiler_error("Lakebed: the rows of " ~ conversion.stored_as ~ " are not the same in Parquet; nothing was changed.") }}
        {%- endif -%}
        {%- set texts = [] -%}
        {%- for value in key -%}{%- do texts.append(none if value is none else value | string) -%}{%- endfor -%}
        {%- do found.append(texts) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Files that convert_follow made are in their place: they and the position belong together. Without a position
    the files lead again. -#}
{% macro convert_followed(conversion, files, position) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- set batch = conversion.batch + (1 if files else 0) -%}
        {%- do lakebed.in_one_commit((lakebed.files_statements(conversion, batch, files) if files else []) + [lakebed.conversion_update(conversion, {'batch': batch, 'position': 'null' if position is none else position})]) -%}
        {%- do lakebed.keep_position(conversion, table, position) -%}
    {%- endif -%}
{% endmacro %}

{#- A table has files that follow it, for a conversion in another lake: as if after a cut-over. -#}
{% macro convert_published(conversion, files, position) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- do lakebed.create_conversions() -%}
        {%- do lakebed.in_one_commit(lakebed.files_statements(conversion, 1, files) + [lakebed.conversion_insert(conversion, {
            'readers': "'table'", 'batch': 1, 'base': 1, 'position': position, 'cut_over_at': lakebed.as_of(),
        })]) -%}
        {%- do lakebed.keep_position(conversion, table, position) -%}
    {%- endif -%}
{% endmacro %}
