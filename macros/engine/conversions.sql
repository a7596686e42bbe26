{#- What `lakebed convert` needs of an engine, and of a table's format. -#}

{#- The Parquet files of a folder, for a FROM clause: those named, or all whose name begins with neither a dot
    nor an underline, as those of writers at work do. Arguments: folder, an absolute path; files,
    paths in it; partitions, the columns that folders in it are named for, the outermost first: a
    list of [name, type], the type none while it is to be guessed. -#}
{% macro folder_files(folder, files=none, partitions=[]) %}{{- return(adapter.dispatch('folder_files', 'lakebed')(folder, files, partitions)) -}}{% endmacro %}

{% macro duckdb__folder_files(folder, files, partitions) %}
    {%- set types, named = [], [] -%}
    {%- for name, type in partitions if type -%}{%- do types.append(lakebed.text_literal(name) ~ ': ' ~ type) -%}{%- endfor -%}
    {%- set options = ', hive_partitioning = ' ~ ('true' if partitions else 'false') ~ (', hive_types = {' ~ types | join(', ') ~ '}' if types else '') -%}
    {%- for file in files or [] -%}{%- do named.append(lakebed.text_literal(folder ~ '/' ~ file)) -%}{%- endfor -%}
    {%- if files is not none -%}{{- return('read_parquet([' ~ named | join(', ') ~ ']' ~ options ~ ')') -}}{%- endif -%}
    {%- set levels = [] -%}
    {%- for name, _ in partitions -%}{%- do levels.append('/' ~ name ~ '=*') -%}{%- endfor -%}
    {{- return('read_parquet(' ~ lakebed.text_literal(folder ~ levels | join ~ '/[!._]*.parquet') ~ options ~ ')') -}}
{% endmacro %}

{#- Spark writes the path of a file as a URI, where a blank and a per cent sign are escaped. -#}
{% macro spark__folder_files(folder, files, partitions) %}
    {%- set named = [] -%}
    {%- for file in files or [] -%}{%- do named.append(lakebed.text_literal('file:' ~ (folder ~ '/' ~ file) | replace('%', '%25') | replace(' ', '%20'))) -%}{%- endfor -%}
    {{- return('parquet.`' ~ folder ~ '`' ~ (' where _metadata.file_path in (' ~ named | join(', ') ~ ')' if files is not none else '')) -}}
{% endmacro %}

{#- The columns of a query: a list of [name, type]. -#}
{% macro described(query) %}{{- return(adapter.dispatch('described', 'lakebed')(query)) -}}{% endmacro %}
{% macro duckdb__described(query) %}{{- return(run_query('select column_name, column_type from (describe ' ~ query ~ ')').rows | map('list') | list) -}}{% endmacro %}
{% macro spark__described(query) %}
    {%- set found = [] -%}
    {%- for row in run_query('describe query ' ~ query).rows -%}{%- do found.append([row[0], row[1]]) -%}{%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- A row of a table alias as text, for a person. -#}
{% macro row_text(alias) %}{{- return(adapter.dispatch('row_text', 'lakebed')(alias)) -}}{% endmacro %}
{% macro duckdb__row_text(alias) %}{{- return('cast(' ~ alias ~ ' as varchar)') -}}{% endmacro %}
{% macro spark__row_text(alias) %}{{- return('to_json(struct(' ~ alias ~ '.*))') -}}{% endmacro %}

{#- Each row of a query so many times as its column says. Arguments: query; columns, of its result, as text;
    times, a column. -#}
{% macro repeated(query, columns, times) %}{{- return(adapter.dispatch('repeated', 'lakebed')(query, columns, times)) -}}{% endmacro %}
{% macro duckdb__repeated(query, columns, times) %}{{- return('select ' ~ columns ~ ' from (select *, unnest(range(cast(' ~ times ~ ' as bigint))) as _copy from (' ~ query ~ ') as counted) as copies') -}}{% endmacro %}
{% macro spark__repeated(query, columns, times) %}{{- return('select ' ~ columns ~ ' from (' ~ query ~ ') as counted lateral view explode(sequence(1L, ' ~ times ~ ')) copies as _copy') -}}{% endmacro %}

{#- Statements that are one commit where the engine has transactions, and one after the other on Spark:
    so their order must be one that can be gone on with. -#}
{% macro in_one_commit(statements) %}{{- return(adapter.dispatch('in_one_commit', 'lakebed')(statements)) -}}{% endmacro %}
{% macro duckdb__in_one_commit(statements) %}
    {%- do adapter.commit() -%}
    {%- for statement in ['begin'] + statements + ['commit'] -%}{%- do run_query(statement) -%}{%- endfor -%}
{% endmacro %}
{% macro spark__in_one_commit(statements) %}
    {%- for statement in statements -%}{%- do run_query(statement) -%}{%- endfor -%}
{% endmacro %}

{#- A statement after which a view shows another query, and before which it shows the old one. Spark's own `create or
    replace view` drops the view first, and a reader then finds none; views of Iceberg's catalogue
    are replaced, and know no `alter view`. -#}
{% macro view_sql(view, query) %}{{- return(adapter.dispatch('view_sql', 'lakebed')(view, query)) -}}{% endmacro %}
{% macro duckdb__view_sql(view, query) %}{{- return('create or replace view ' ~ view ~ ' as ' ~ query) -}}{% endmacro %}
{% macro spark__view_sql(view, query) %}
    {%- set verb = 'create or replace' if lakebed.table_format() == 'iceberg' else 'alter' if load_relation(view) else 'create' -%}
    {{- return(verb ~ ' view ' ~ view ~ ' as ' ~ query) -}}
{% endmacro %}

{#- Statements that make an empty table with the columns of a query, and a history of its changes. -#}
{% macro empty_table_sql(relation, query, partitions) %}{{- return(adapter.dispatch('empty_table_sql', 'lakebed')(relation, query, partitions)) -}}{% endmacro %}
{% macro duckdb__empty_table_sql(relation, query, partitions) %}
    {%- set made = ['create table ' ~ relation ~ ' as ' ~ query ~ ' limit 0'] -%}
    {%- if partitions -%}{%- do made.append('alter table ' ~ relation ~ ' set partitioned by (' ~ partitions | join(', ') ~ ')') -%}{%- endif -%}
    {{- return(made) -}}
{% endmacro %}
{% macro spark__empty_table_sql(relation, query, partitions) %}
    {%- set properties = {'delta': "'delta.enableChangeDataFeed' = 'true'", 'iceberg': "'write.wap.enabled' = 'true'"} -%}
    {{- return([
        'create table if not exists ' ~ relation ~ lakebed.using_format(partitions | join(', '))
        ~ ' tblproperties (' ~ properties[lakebed.table_format()] ~ ') as ' ~ query ~ ' limit 0'
    ]) -}}
{% endmacro %}

{#- Rows that come into a table once, however often it is tried. Arguments: table; rows, a select; columns, as
    text; whole, to put them in the place of what is there; mark, {id, batch, attempt}: a batch of a
    conversion, and the name of this attempt at it; first, done, statements before and after. -#}
{% macro copy_once(table, rows, columns, whole, mark, first, done) %}{{- return(adapter.dispatch('copy_once', 'lakebed')(table, rows, columns, whole, mark, first, done)) -}}{% endmacro %}

{% macro duckdb__copy_once(table, rows, columns, whole, mark, first, done) %}
    {%- do lakebed.in_one_commit(
        first + (['delete from ' ~ table] if whole else []) + [
            'insert into ' ~ table ~ ' (' ~ columns ~ ') ' ~ rows,
            'call ' ~ adapter.quote(table.database) ~ ".set_commit_message('lakebed', 'convert', extra_info => " ~ lakebed.text_literal(mark.attempt) ~ ')',
        ] + done
    ) -%}
{% endmacro %}

{% macro spark__copy_once(table, rows, columns, whole, mark, first, done) %}
    {%- do lakebed.in_one_commit(first) -%}
    {%- do lakebed.by_format(table, lakebed.delta_copy_once, lakebed.iceberg_copy_once)(table, rows, columns, whole, mark) -%}
    {%- do lakebed.in_one_commit(done) -%}
{% endmacro %}

{% macro spark_insert(table, rows, columns, whole) %}
    {%- do run_query(('insert overwrite ' if whole else 'insert into ') ~ table ~ ' (' ~ columns ~ ') ' ~ rows) -%}
{% endmacro %}

{#- Delta skips a transaction that it has; of two at once the later one conflicts. -#}
{% macro delta_copy_once(table, rows, columns, whole, mark) %}
    {%- set settings = {'commitInfo.userMetadata': mark.attempt, 'write.txnAppId': mark.id, 'write.txnVersion': mark.batch} -%}
    {%- for name, value in settings.items() -%}{%- do run_query('set `spark.databricks.delta.' ~ name ~ '` = `' ~ value ~ '`') -%}{%- endfor -%}
    {%- do lakebed.spark_insert(table, rows, columns, whole) -%}
    {%- for name in settings -%}{%- do run_query('reset `spark.databricks.delta.' ~ name ~ '`') -%}{%- endfor -%}
{% endmacro %}

{#- Iceberg has no such numbers. Its rows are staged under the attempt's name, which nobody sees, and
    published: a name is never published twice. A statement of a killed client may still be
    running, and then stages what nobody publishes. -#}
{% macro iceberg_copy_once(table, rows, columns, whole, mark) %}
    {%- if whole -%}
        {#- What replaces everything is the same when it is done twice. -#}
        {%- do lakebed.spark_insert(table, rows, columns, true) -%}
    {%- else -%}
        {%- do run_query('set spark.wap.id = ' ~ mark.attempt) -%}
        {%- do lakebed.spark_insert(table, rows, columns, false) -%}
        {%- do run_query('reset spark.wap.id') -%}
        {%- do lakebed.iceberg_call('publish_changes', table, 'wap_id => ' ~ lakebed.text_literal(mark.attempt)) -%}
    {%- endif -%}
{% endmacro %}

{#- Whether an attempt that was killed on Spark is in the table. -#}
{% macro copied_already(table, attempt) %}
    {#- Delta finds out itself when it is tried again. -#}
    {{- return(table.is_iceberg and lakebed.iceberg_published(table, attempt)) -}}
{% endmacro %}

{#- What was staged as a whole is published now. -#}
{% macro iceberg_published(table, attempt) %}
    {%- set name = lakebed.text_literal(attempt) -%}
    {%- set mine = "select count(*) from " ~ table ~ ".snapshots where summary['wap.id'] = " ~ name -%}
    {%- if run_query('select 1 from ' ~ table ~ ".snapshots where summary['published-wap-id'] = " ~ name ~ " or (summary['wap.id'] = " ~ name ~ ' and snapshot_id in (select snapshot_id from ' ~ table ~ '.history))').rows -%}
        {{- return(true) -}}
    {%- endif -%}
    {%- if run_query(mine).rows[0][0] | int != 1 -%}{{- return(false) -}}{%- endif -%}
    {%- do lakebed.iceberg_call('publish_changes', table, 'wap_id => ' ~ name) -%}
    {{- return(true) -}}
{% endmacro %}

{#- The versions of a table that are copies of a conversion's files: their attempts begin with its id. -#}
{% macro copied_versions(table, id) %}{{- return(adapter.dispatch('copied_versions', 'lakebed')(table, id)) -}}{% endmacro %}
{% macro duckdb__copied_versions(table, id) %}
    {{- return(run_query('select snapshot_id from ducklake_snapshots(' ~ lakebed.text_literal(table.database) ~ ") where commit_extra_info like '" ~ id ~ "-%'").columns[0].values() | map('int') | list) -}}
{% endmacro %}
{% macro spark__copied_versions(table, id) %}{{- return(lakebed.by_format(table, lakebed.delta_copied_versions, lakebed.iceberg_copied_versions)(table, id)) -}}{% endmacro %}
{% macro delta_copied_versions(table, id) %}
    {%- set found = [] -%}
    {%- for row in run_query('describe history ' ~ table).rows if (row['userMetadata'] or '').startswith(id ~ '-') -%}{%- do found.append(row['version'] | int) -%}{%- endfor -%}
    {{- return(found) -}}
{% endmacro %}
{% macro iceberg_copied_versions(table, id) %}
    {%- set found = [] -%}
    {%- for row in run_query('select snapshot_id from ' ~ table ~ ".snapshots where coalesce(summary['published-wap-id'], summary['wap.id']) like '" ~ id ~ "-%'").rows -%}{%- do found.append(row[0] | int) -%}{%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Whether values of a type, or of one inside it, cannot be compared. -#}
{% macro is_incomparable(type) %}{{- return(adapter.dispatch('is_incomparable', 'lakebed')(type)) -}}{% endmacro %}
{% macro duckdb__is_incomparable(type) %}{{- return(false) -}}{% endmacro %}
{% macro spark__is_incomparable(type) %}{{- return('map<' in type.lower()) -}}{% endmacro %}

{#- What becomes of a type in a table of the lake's format. -#}
{% macro stored_type(type) %}{{- return(adapter.dispatch('stored_type', 'lakebed')(type)) -}}{% endmacro %}
{% macro duckdb__stored_type(type) %}{{- return(type) -}}{% endmacro %}
{% macro spark__stored_type(type) %}
    {{- return('int' if lakebed.table_format() == 'iceberg' and type in ('tinyint', 'smallint') else type) -}}
{% endmacro %}

{#- Parquet's own type for the moments that are written next: Spark's default is an older one, which says nothing
    of a time zone. -#}
{% macro plain_timestamps() %}{{- return(adapter.dispatch('plain_timestamps', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__plain_timestamps() %}{% endmacro %}
{% macro spark__plain_timestamps() %}{%- do run_query('set spark.sql.parquet.outputTimestampType = TIMESTAMP_MICROS') -%}{% endmacro %}

{#- Refuses a table whose changes are not kept. -#}
{% macro check_change_feed(table) %}{{- return(adapter.dispatch('check_change_feed', 'lakebed')(table)) -}}{% endmacro %}
{% macro duckdb__check_change_feed(table) %}{% endmacro %}
{% macro spark__check_change_feed(table) %}
    {%- if table.is_delta and not run_query('show tblproperties ' ~ table).rows | selectattr(0, 'equalto', 'delta.enableChangeDataFeed') | selectattr(1, 'equalto', 'true') | list -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ table.schema ~ "." ~ table.identifier ~ " keeps no changes that files could follow: give its model `tblproperties: {delta.enableChangeDataFeed: 'true'}`. Nothing was written.") }}
    {%- endif -%}
{% endmacro %}
