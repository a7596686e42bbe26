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
