{#- What `lakebed convert` does in the lake. A conversion is a row of `ops.conversions` that its steps update:
    where its files and its table are, which of them readers see, the last batch of files that both
    have (files of batches from `base` on count: that one had them all), the step that is open, and the
    version of the table up to which the files have its rows. Their names are in `ops.conversion_files`.
    On DuckDB a step is one transaction. On Spark each of its statements is a commit: `open_step` says
    what was begun, and `convert_resume` brings it to its end.
    A conversion, as an argument, is a dictionary of those columns.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). -#}
{% macro conversions() -%}
    {{- return(lakebed.ops_relation('conversions')) -}}
{%- endmacro %}

{% macro conversion_files() -%}
    {{- return(lakebed.ops_relation('conversion_files')) -}}
{%- endmacro %}

{% macro conversion_columns() -%}
    {%- set text = dbt.type_string() -%}
    {{- return({
        'id': text, 'view_name': text, 'folder': text, 'stored_as': text, 'partitions': text, 'readers': text, 'batch': 'int', 'base': 'int',
        'open_step': text, 'attempt': text, 'position': 'bigint', 'started_at': 'timestamp', 'cut_over_at': 'timestamp', 'finished_at': 'timestamp',
    }) -}}
{%- endmacro %}

{#- Prints one line of JSON: the conversions that are not finished, all or that of one view, and of one the
    files that it knows. Every value is a text. -#}
{% macro convert_facts(view=none) %}
    {%- if execute -%}
        {%- set found, files, columns = [], [], lakebed.conversion_columns() | list -%}
        {%- if load_relation(lakebed.conversions()) -%}
            {%- set texts = [] -%}
            {%- for column in columns -%}{%- do texts.append('cast(' ~ column ~ ' as ' ~ dbt.type_string() ~ ')') -%}{%- endfor -%}
            {%- set rows = run_query('select ' ~ texts | join(', ') ~ ' from ' ~ lakebed.conversions() ~ ' where finished_at is null' ~ (' and view_name = ' ~ lakebed.text_literal(view) if view else '') ~ ' order by started_at, id').rows -%}
            {%- for row in rows -%}
                {%- set one = {} -%}
                {%- for column in columns -%}{%- do one.update({column: none if row[loop.index0] is none else row[loop.index0] | string}) -%}{%- endfor -%}
                {%- do found.append(one) -%}
            {%- endfor -%}
            {%- if view and found -%}
                {%- for row in run_query('select batch, file, bytes, modified from ' ~ lakebed.conversion_files() ~ ' where id = ' ~ lakebed.text_literal(found[0].id) ~ ' order by 1, 2').rows -%}
                    {%- do files.append([row[0] | int, row[1] | string, row[2] | int, row[3] | int]) -%}
                {%- endfor -%}
            {%- endif -%}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson({'format': lakebed.table_format(), 'now': lakebed.as_of_text(), 'conversions': found, 'files': files})) -%}
    {%- endif -%}
{% endmacro %}

{#- Begins a conversion: an empty table beside the view, and the view, of the files as yet.
    Arguments: conversion, with the names of `partitions`; files, paths in the folder; replace, for a view that
    is there already. -#}
{% macro convert_start(conversion, files, replace=false) %}
    {%- if execute -%}
        {%- set view, table = lakebed.conversion_relations(conversion) -%}
        {%- set there = load_relation(view) -%}
        {%- if there and not there.is_view -%}
            {{ exceptions.raise_compiler_error("Lakebed: there is a table " ~ conversion.view ~ ": readers are to see a view of that name, which becomes another at once. Choose a name that is free.") }}
        {%- elif there and not replace -%}
            {{ exceptions.raise_compiler_error("Lakebed: there is a view " ~ conversion.view ~ " already: --replace-view takes its place, if it shows these files.") }}
        {%- elif load_relation(table) -%}
            {{ exceptions.raise_compiler_error("Lakebed: there is a table " ~ conversion.stored_as ~ " already, which the files would be copied to; nothing was done.") }}
        {%- endif -%}
        {%- for name, type in lakebed.described('select * from ' ~ lakebed.conversion_rows(conversion, files)) if lakebed.is_incomparable(type) -%}
            {{ exceptions.raise_compiler_error("Lakebed: column " ~ name ~ " is a " ~ type ~ ", which cannot be compared: the copy could not be checked. Nothing was done.") }}
        {%- endfor -%}
        {%- do adapter.create_schema(view.without_identifier()) -%}
        {%- do lakebed.create_conversions() -%}
        {%- do lakebed.in_one_commit(
            [lakebed.conversion_insert(conversion, {'readers': "'files'", 'batch': 0, 'base': 1, 'open_step': "'start'"})]
            + lakebed.start_statements(conversion, files)
        ) -%}
    {%- endif -%}
{% endmacro %}

{% macro create_conversions() %}
    {%- set text, columns = dbt.type_string(), [] -%}
    {%- for name, type in lakebed.conversion_columns().items() -%}{%- do columns.append(name ~ ' ' ~ type) -%}{%- endfor -%}
    {%- do adapter.create_schema(lakebed.conversions().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.conversions() ~ ' (' ~ columns | join(', ') ~ ')' ~ lakebed.using_format()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.conversion_files() ~ ' (id ' ~ text ~ ', batch int, file ' ~ text ~ ', bytes bigint, modified bigint)' ~ lakebed.using_format()) -%}
{% endmacro %}

{% macro conversion_insert(conversion, values) %}
    {%- set values = dict(values, id=lakebed.text_literal(conversion.id), view_name=lakebed.text_literal(conversion.view), folder=lakebed.text_literal(conversion.folder), stored_as=lakebed.text_literal(conversion.stored_as), partitions=lakebed.text_literal(tojson(conversion.partitions)), started_at=lakebed.as_of()) -%}
    {%- set row = [] -%}
    {%- for name in lakebed.conversion_columns() -%}{%- do row.append(values.get(name, 'null')) -%}{%- endfor -%}
    {{- return('insert into ' ~ lakebed.conversions() ~ ' values (' ~ row | join(', ') ~ ')') -}}
{% endmacro %}

{% macro start_statements(conversion, files) %}
    {%- set view, table = lakebed.conversion_relations(conversion) -%}
    {%- set rows = 'select * from ' ~ lakebed.conversion_rows(conversion, files) -%}
    {%- set names, types, partitions = [], {}, [] -%}
    {%- for name, type in lakebed.described(rows) -%}
        {%- do names.append(adapter.quote(name)) -%}
        {%- do types.update({name: type}) -%}
    {%- endfor -%}
    {%- for name in conversion.partitions -%}{%- do partitions.append(adapter.quote(name)) -%}{%- endfor -%}
    {{- return(
        lakebed.empty_table_sql(table, rows, partitions)
        + [lakebed.view_sql(view, 'select ' ~ names | join(', ') ~ ' from ' ~ lakebed.conversion_rows(conversion, types=types)), lakebed.conversion_update(conversion, {'open_step': 'null'})]
    ) -}}
{% endmacro %}

{#- Copies files to the table, as one batch. Arguments: conversion; files, dictionaries of file, bytes,
    modified; batch, its number; whole, whether it has all files, and takes the place of all rows;
    attempt, a new name for it. -#}
{% macro convert_copy(conversion, files, batch, whole, attempt) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- set columns = lakebed.table_columns(table) -%}
        {%- set rows = 'select ' ~ columns ~ ' from ' ~ lakebed.conversion_rows(conversion, files | map(attribute='file') | list, lakebed.table_types(table)) -%}
        {%- set step = {'open_step': "'copy all'" if whole else "'copy'", 'attempt': lakebed.text_literal(attempt)} -%}
        {%- do lakebed.copy_once(
            table, rows, columns, whole, {'id': conversion.id, 'batch': batch, 'attempt': attempt},
            lakebed.files_statements(conversion, batch, files) + [lakebed.conversion_update(conversion, step)],
            [lakebed.copied_update(conversion, batch, whole)]
        ) -%}
    {%- endif -%}
{% endmacro %}

{% macro copied_update(conversion, batch, whole) %}
    {%- set values = {'batch': batch, 'open_step': 'null'} -%}
    {%- if whole -%}{%- do values.update(base=batch, position='null') -%}{%- endif -%}
    {{- return(lakebed.conversion_update(conversion, values)) -}}
{% endmacro %}

{#- Compares the files with the table, every row. Prints one line of JSON: version, of the table; rows, of
    the files; same; and where they differ: columns, counts, some of the rows, and partitions. -#}
{% macro convert_compare(conversion, files) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- set version = lakebed.newest_version(table) -%}
        {%- set names = lakebed.table_columns(table) -%}
        {%- set old = lakebed.conversion_rows(conversion, files, lakebed.table_types(table)) -%}
        {%- set columns, there, here = [], [], [] -%}
        {%- for name, type in lakebed.described('select * from ' ~ table) -%}
            {%- do columns.append({'name': name, 'type': type}) -%}
            {%- do here.append(name ~ ' ' ~ type) -%}
        {%- endfor -%}
        {%- for name, type in lakebed.described('select * from ' ~ old) -%}{%- do there.append(name ~ ' ' ~ lakebed.stored_type(type)) -%}{%- endfor -%}
        {%- set found = {'version': version, 'columns': [there | reject('in', here) | list, here | reject('in', there) | list]} -%}
        {%- set old = 'select ' ~ names ~ ' from ' ~ old -%}
        {%- set new = 'select ' ~ names ~ ' from ' ~ lakebed.version_sql(table, version, none) -%}
        {%- if found.columns == [[], []] -%}
            {%- set digests = [lakebed.rows_digest(old, columns), lakebed.rows_digest(new, columns)] -%}
            {%- do found.update(rows=digests[0][0], same=digests[0] == digests[1]) -%}
            {%- if not found.same -%}{%- do found.update(lakebed.conversion_difference(conversion, old, new)) -%}{%- endif -%}
        {%- else -%}
            {%- do found.update(rows=0, same=false, only=[]) -%}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson(found)) -%}
    {%- endif -%}
{% endmacro %}

{#- Rows of one side only: how many, five of them, and in which partitions. -#}
{% macro conversion_difference(conversion, old, new) %}
    {%- set only = [] -%}
    {%- for side, rows, others in [('files', old, new), ('table', new, old)] -%}
        {%- set difference = '(' ~ rows ~ ' except all ' ~ others ~ ')' -%}
        {%- set count = run_query('select count(*) from ' ~ difference ~ ' as d').rows[0][0] | int -%}
        {%- set texts, parts = [], [] -%}
        {%- if count -%}
            {%- for row in run_query('select ' ~ lakebed.row_text('d') ~ ' as row_text from ' ~ difference ~ ' as d order by 1 limit 5').rows -%}{%- do texts.append(row[0] | string) -%}{%- endfor -%}
        {%- endif -%}
        {%- if count and conversion.partitions -%}
            {%- set names = [] -%}
            {%- for name in conversion.partitions -%}{%- do names.append(adapter.quote(name)) -%}{%- endfor -%}
            {%- for row in run_query('select count(*), ' ~ names | join(', ') ~ ' from ' ~ difference ~ ' as d group by ' ~ names | join(', ') ~ ' order by 1 desc limit 5').rows -%}
                {%- do parts.append({'rows': row[0] | int, 'of': row.values()[1:] | map('string') | join(', ')}) -%}
            {%- endfor -%}
        {%- endif -%}
        {%- do only.append({'side': side, 'rows': count, 'some': texts, 'partitions': parts}) -%}
    {%- endfor -%}
    {{- return({'only': only}) -}}
{% endmacro %}

{#- Lets readers see the other side: `table` or `files`, by one statement. Arguments: position,
    the version up to which both sides have the same rows; files, for a folder that is not the one of
    before (conversion.folder is the new one then). -#}
{% macro convert_switch(conversion, readers, position, files=none) %}
    {%- if execute -%}
        {%- set moved = {'readers': lakebed.text_literal(readers), 'position': position, 'open_step': "'view'", 'folder': lakebed.text_literal(conversion.folder)} -%}
        {%- if readers == 'table' -%}{%- do moved.update(cut_over_at=lakebed.as_of()) -%}{%- endif -%}
        {%- set batch = conversion.batch + 1 -%}
        {%- if files is not none -%}{%- do moved.update(batch=batch, base=batch) -%}{%- endif -%}
        {%- set table = lakebed.stored_table(conversion.stored_as) -%}
        {%- do lakebed.in_one_commit(
            (lakebed.files_statements(conversion, batch, files) if files is not none else [])
            + [lakebed.conversion_update(conversion, moved)] + lakebed.view_statements(conversion, readers)
        ) -%}
        {%- do lakebed.keep_position(conversion, table, position) -%}
    {%- endif -%}
{% endmacro %}

{% macro view_statements(conversion, readers) %}
    {%- set view, table = lakebed.conversion_relations(conversion) -%}
    {%- set rows = table if readers == 'table' else lakebed.conversion_rows(conversion, types=lakebed.table_types(table)) -%}
    {{- return([lakebed.view_sql(view, 'select ' ~ lakebed.table_columns(table) ~ ' from ' ~ rows), lakebed.conversion_update(conversion, {'open_step': 'null'})]) -}}
{% endmacro %}

{#- What was begun on Spark, and killed. Arguments: files of the open batch; whole and attempt, as for
    convert_copy. -#}
{% macro convert_resume(conversion, files=none, whole=false, attempt=none) %}
    {%- if execute -%}
        {%- if conversion.open_step == 'start' -%}
            {%- do lakebed.in_one_commit(lakebed.start_statements(conversion, files)) -%}
        {%- elif conversion.open_step == 'view' -%}
            {%- do lakebed.in_one_commit(lakebed.view_statements(conversion, conversion.readers)) -%}
        {%- elif lakebed.copied_already(lakebed.stored_table(conversion.stored_as), conversion.attempt) -%}
            {%- do lakebed.in_one_commit([lakebed.copied_update(conversion, conversion.batch + 1, whole)]) -%}
        {%- else -%}
            {%- do lakebed.convert_copy(conversion, files, conversion.batch + 1, whole, attempt) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

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

{#- Ends a conversion; the side that readers do not see may go: the table here, files by the sidecar. -#}
{% macro convert_finish(conversion, drop_table=false) %}
    {%- if execute -%}
        {%- set table = load_relation(lakebed.conversion_relations(conversion)[1]) -%}
        {%- if table -%}{%- do lakebed.keep_position(conversion, table, none) -%}{%- endif -%}
        {%- do lakebed.in_one_commit((['drop table ' ~ table] if table and drop_table else []) + [lakebed.conversion_update(conversion, {'finished_at': lakebed.as_of()})]) -%}
    {%- endif -%}
{% endmacro %}

{#- The view and the table of a conversion. -#}
{% macro conversion_relations(conversion) %}
    {%- set found = [] -%}
    {%- for name in [conversion.view, conversion.stored_as] -%}
        {%- set parts = name.split('.') -%}
        {%- do found.append(api.Relation.create(database=target.get('database'), schema=parts[0], identifier=parts[1])) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- The rows of a conversion's files, for a FROM clause. Arguments: conversion; files, paths, or all of the
    folder; types, of columns by name, which partitions are read as. -#}
{% macro conversion_rows(conversion, files=none, types={}) %}
    {%- set partitions = [] -%}
    {%- for name in conversion.partitions -%}{%- do partitions.append([name, types.get(name)]) -%}{%- endfor -%}
    {{- return(lakebed.folder_files(conversion.folder, files, partitions)) -}}
{% endmacro %}

{% macro table_types(table) %}
    {%- set types = {} -%}
    {%- for column in adapter.get_columns_in_relation(table) -%}{%- do types.update({column.name: column.dtype}) -%}{%- endfor -%}
    {{- return(types) -}}
{% endmacro %}

{% macro table_columns(table) %}
    {{- return(lakebed.quoted_columns(adapter.get_columns_in_relation(table) | map(attribute='name') | list) | trim) -}}
{% endmacro %}

{% macro conversion_update(conversion, values) %}
    {%- set sets = [] -%}
    {%- for name, value in values.items() -%}{%- do sets.append(name ~ ' = ' ~ value) -%}{%- endfor -%}
    {{- return('update ' ~ lakebed.conversions() ~ ' set ' ~ sets | join(', ') ~ ' where id = ' ~ lakebed.text_literal(conversion.id)) -}}
{% endmacro %}

{#- Writes down the files of a batch; those of one that was never begun go. -#}
{% macro files_statements(conversion, batch, files) %}
    {%- set mine = ' where id = ' ~ lakebed.text_literal(conversion.id) ~ ' and batch >= ' ~ batch -%}
    {%- set rows = [] -%}
    {%- for each in files -%}{%- do rows.append('(' ~ [lakebed.text_literal(conversion.id), batch, lakebed.text_literal(each.file), each.bytes, each.modified] | join(', ') ~ ')') -%}{%- endfor -%}
    {{- return(['delete from ' ~ lakebed.conversion_files() ~ mine] + (['insert into ' ~ lakebed.conversion_files() ~ ' values ' ~ rows | join(', ')] if rows else [])) -}}
{% endmacro %}

{#- `expire` keeps a version that has a name, and what changed since. -#}
{% macro keep_position(conversion, table, position) %}
    {%- set name = 'convert ' ~ conversion.id -%}
    {%- if lakebed.tagged_version(table, name, missing=none) is not none -%}{%- do lakebed.remove_tag(table, name) -%}{%- endif -%}
    {%- if position -%}{%- do lakebed.set_tag(table, name, position) -%}{%- endif -%}
    {%- do lakebed.commit() -%}
{% endmacro %}
