{#- The steps of `lakebed convert` from the files to the table; what they know stands in
    conversion_state.sql, the way back in convert_back.sql. -#}

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

{#- Ends a conversion; the side that readers do not see may go: the table here, files by the sidecar. -#}
{% macro convert_finish(conversion, drop_table=false) %}
    {%- if execute -%}
        {%- set table = load_relation(lakebed.conversion_relations(conversion)[1]) -%}
        {%- if table -%}{%- do lakebed.keep_position(conversion, table, none) -%}{%- endif -%}
        {%- do lakebed.in_one_commit((['drop table ' ~ table] if table and drop_table else []) + [lakebed.conversion_update(conversion, {'finished_at': lakebed.as_of()})]) -%}
    {%- endif -%}
{% endmacro %}
