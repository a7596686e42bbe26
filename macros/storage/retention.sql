{#- What `lakebed retain` works from: each model with `meta: {retention: {column, days, archive}}`, how it is
    built, and whether it is in the lake. Prints one line of JSON.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). Example: dbt run-operation retention_facts -#}
{% macro retention_facts() %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for node in graph.nodes.values() | sort(attribute='unique_id') if node.resource_type in ['model', 'snapshot', 'seed'] and node.config.get('meta', {}).get('retention') is not none -%}
            {%- set relation = load_relation(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
            {%- set columns = [] -%}
            {%- if relation -%}
                {%- for column in adapter.get_columns_in_relation(relation) -%}{%- do columns.append({'name': column.name, 'type': column.dtype}) -%}{%- endfor -%}
            {%- endif -%}
            {%- do found.append({
                'name': node.name, 'table': node.schema ~ '.' ~ node.alias, 'policy': node.config.get('meta').retention,
                'built': 'snapshot' if node.resource_type == 'snapshot' else 'seed' if node.resource_type == 'seed' else node.config.materialized,
                'columns': columns, 'promise': lakebed.time_travel_promise([api.Relation.create(identifier=node.alias)])[0],
            }) -%}
        {%- endfor -%}
        {%- do print('LAKEBED ' ~ tojson({'tables': found, 'as_of': lakebed.as_of_text(), 'holds': var('legal_holds', ''), 'open': lakebed.open_archives()})) -%}
    {%- endif -%}
{% endmacro %}

{#- The log of retention: append-only. An archive is `archiving` until its rows are `deleted`. -#}
{% macro retentions() -%}
    {{- return(lakebed.ops_relation('retention')) -}}
{%- endmacro %}

{% macro create_retentions() %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.retentions().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.retentions() ~ ' (table_name ' ~ text ~ ', state ' ~ text ~ ', condition ' ~ text ~ ', row_count bigint, archive ' ~ text ~ ', archive_sha256 ' ~ text ~ ', recorded_at timestamp)' ~ lakebed.using_format()) -%}
    {%- do lakebed.commit() -%}
{% endmacro %}

{% macro retention_record(table, state, condition, rows, archive, sha256) %}
    {%- set texts = [] -%}
    {%- for value in [table, state, condition] -%}{%- do texts.append(lakebed.text_literal(value)) -%}{%- endfor -%}
    {{- return('insert into ' ~ lakebed.retentions() ~ ' values (' ~ texts | join(', ') ~ ', ' ~ rows ~ ', ' ~ lakebed.text_literal(archive or '') ~ ', ' ~ lakebed.text_literal(sha256 or '') ~ ', ' ~ lakebed.as_of() ~ ')') -}}
{% endmacro %}

{#- Archives whose rows are not known to be deleted. Returns: a list of {table, condition, archive}. -#}
{% macro open_archives() %}
    {%- set found = [] -%}
    {%- if load_relation(lakebed.retentions()) -%}
        {%- for row in run_query("select table_name, condition, archive from " ~ lakebed.retentions() ~ " where state = 'archiving' and archive not in (select archive from " ~ lakebed.retentions() ~ " where state != 'archiving') group by 1, 2, 3").rows -%}
            {%- do found.append({'table': row[0], 'condition': row[1], 'archive': row[2]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{- return(found) -}}
{% endmacro %}

{#- The rows that a policy lets go: older than its days, and held by nobody. A row without a time stays.
    Arguments: column; cutoff, a date; holds, a list of {column, value}. -#}
{% macro retention_condition(column, cutoff, holds) %}
    {%- set kept = [] -%}
    {%- for hold in holds -%}
        {%- do kept.append(' and ' ~ 'coalesce(' ~ lakebed.to_text(adapter.quote(hold.column)) ~ " != " ~ lakebed.text_literal(hold.value) ~ ', true)') -%}
    {%- endfor -%}
    {{- return(adapter.quote(column) ~ " < cast('" ~ cutoff ~ "' as timestamp)" ~ kept | join) -}}
{% endmacro %}

{#- How many rows each table has, and would lose. Arguments: tables, a list of {table, column, cutoff, holds}.
    Prints a line of JSON. -#}
{% macro retention_counts(tables) %}
    {%- set found = [] -%}
    {%- for table in tables -%}
        {%- set relation = lakebed.stored_table(table.table) -%}
        {%- set condition = lakebed.retention_condition(table.column, table.cutoff, table.holds) -%}
        {%- set row = run_query('select count(*), count(case when ' ~ condition ~ ' then 1 end), count(case when ' ~ lakebed.retention_condition(table.column, table.cutoff, []) ~ ' then 1 end) from ' ~ relation).rows[0] -%}
        {%- do found.append({'condition': condition, 'rows': row[0] | int, 'old': row[1] | int, 'held': row[2] | int - row[1] | int, 'bytes': lakebed.table_health(relation).bytes}) -%}
    {%- endfor -%}
    {%- do print('LAKEBED ' ~ tojson({'tables': found})) -%}
{% endmacro %}

{#- Notes that an archive is about to be written. -#}
{% macro retention_archiving(table, condition, archive) %}
    {%- do lakebed.create_retentions() -%}
    {%- do run_query(lakebed.retention_record(table, 'archiving', condition, 0, archive, '')) -%}
    {%- do lakebed.commit() -%}
{% endmacro %}

{#- Deletes the rows of a condition, if they are still those of the archive. Prints a line of JSON. -#}
{% macro retention_delete(table, condition, columns, rows, digest=none, archive=none, sha256=none) %}
    {%- do lakebed.create_retentions() -%}
    {%- set record = lakebed.retention_record(table, 'deleted', condition, rows, archive, sha256) -%}
    {%- set same = lakebed.delete_checked(lakebed.stored_table(table), condition, columns, [rows, digest] if digest else none, record) -%}
    {%- do lakebed.commit() -%}
    {%- do print('LAKEBED ' ~ tojson({'deleted': same})) -%}
{% endmacro %}

{#- What became of an archive whose run was killed: its rows are all in the table still (it is then
    `dropped`), or all gone (`deleted`, which is noted). Prints a line of JSON. -#}
{% macro retention_settle(table, condition, archive, folder, rows, sha256, columns) %}
    {%- set names = [] -%}
    {%- for column in columns -%}{%- do names.append('cast(' ~ adapter.quote(column.name) ~ ' as ' ~ column.type ~ ')') -%}{%- endfor -%}
    {%- set missing = 0 -%}
    {%- if folder -%}
        {%- set missing = run_query('select count(*) from (select ' ~ names | join(', ') ~ ' from ' ~ lakebed.parquet_files(folder) ~ ' except all select ' ~ names | join(', ') ~ ' from ' ~ lakebed.stored_table(table) ~ ') as gone').rows[0][0] | int -%}
        {%- if missing not in [0, rows] -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ missing ~ " of the " ~ rows ~ " rows archived in " ~ archive ~ " are not in " ~ table ~ " any more, and Lakebed did not delete them: look, and move that folder away. Nothing was deleted.") }}
        {%- endif -%}
    {%- endif -%}
    {%- set state = 'deleted' if missing else 'dropped' -%}
    {#- One whose rows are still there is noted as dropped when its folder is gone. -#}
    {%- if missing or not folder -%}
        {%- do run_query(lakebed.retention_record(table, state, condition, missing, archive, sha256)) -%}
        {%- do lakebed.commit() -%}
        {%- if not missing -%}{%- do lakebed.forget_export(archive) -%}{%- endif -%}
    {%- endif -%}
    {%- do print('LAKEBED ' ~ tojson({'state': state})) -%}
{% endmacro %}
