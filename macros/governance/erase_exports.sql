{#- Erasure in exports of tables with a policy, and of the DLQ: what is done to the table is done to its copy. -#}

{#- How many rows of subjects are in an export. Arguments: export, a dictionary made by
    python/lakebed/erase/exports.py: name, folder (of its Parquet files), table (its plan; none for
    the DLQ), columns, rows; keys; key_type. Returns: a number. Engines: DuckDB, Spark. -#}
{% macro rows_in_export(export, keys, key_type) %}
    {%- if not export.rows -%}{{- return(0) -}}{%- endif -%}
    {%- if export.table -%}{%- do lakebed.check_export_columns(export) -%}{%- endif -%}
    {%- set found = lakebed.found_in_export(export, keys, key_type) -%}
    {{- return(run_query('select count(*) from ' ~ lakebed.parquet_files(export.folder) ~ ' as t where ' ~ found.theirs ~ ' or ' ~ found.lost).rows[0][0] | int) -}}
{% endmacro %}

{#- rows_of_subject for an export (alias t). -#}
{% macro found_in_export(export, keys, key_type) %}
    {{- return(lakebed.rows_of_subject(export.table, keys) if export.table else {'theirs': '(' ~ lakebed.names_refused(keys, key_type) ~ ')', 'lost': 'false'}) -}}
{% endmacro %}

{% macro check_export_columns(export) %}
    {%- set table, names = export.table, export.columns | map(attribute='name') | list -%}
    {%- set needed = table['keys'] | map(attribute='name') | list + (['_record', '_header'] if table.line else []) -%}
    {%- set needed = needed + (['_batch_id', '_file_name', '_line', '_record'] if table.lines_of else []) + (['broken_rules'] if table.judged else []) -%}
    {%- for column in needed if column not in names -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ export.name ~ " has no column " ~ column ~ ", which says whose its rows are: delete it, and `lakebed exports --forget` it. Nothing was erased.") }}
    {%- endfor -%}
    {%- do lakebed.refuse_untagged(table, none, names) -%}
{% endmacro %}

{#- Prints the kinds of subjects that were erased from the lake, as a line of JSON. -#}
{% macro erased_kinds() %}
    {%- set kinds = run_query('select distinct subject from ' ~ lakebed.erasures()).columns[0].values() | list if load_relation(lakebed.erasures()) else [] -%}
    {%- do print('LAKEBED ' ~ tojson({'kinds': kinds | sort})) -%}
{% endmacro %}

{#- Prints how many rows of an export are of people who were erased from the lake, as a line of JSON. They
    are known by their keyed hashes, so the session needs the key. Arguments: subject, its kind; export. -#}
{% macro erased_rows_in_export(subject, export) %}
    {%- set found = 0 -%}
    {%- if export.rows and lakebed.has_erasures(subject) -%}
        {%- do lakebed.check_export_columns(export) -%}
        {%- set erased = 'select subject_hash from ' ~ lakebed.erasures() ~ " where state = 'started' and subject = " ~ lakebed.text_literal(subject) -%}
        {%- set conditions = [] -%}
        {%- for text in lakebed.keys_in_row(export.table) -%}{%- do conditions.append(lakebed.subject_hash(subject, text) ~ ' in (' ~ erased ~ ')') -%}{%- endfor -%}
        {%- set found = run_query('select count(*) from ' ~ lakebed.parquet_files(export.folder) ~ ' as t where ' ~ conditions | join(' or ')).rows[0][0] | int -%}
    {%- endif -%}
    {%- do print('LAKEBED ' ~ tojson({'rows': found})) -%}
{% endmacro %}

{#- Writes the rows of an export, as they are after the erasure of its table, to another folder.
    Arguments: export; folder, an absolute path that is not there; key_type. The keys come by the
    environment. Prints a line of JSON: what the manifest says of them. -#}
{% macro erase_export(export, folder, key_type) %}
    {%- set table, names = export.table or {'delete': true}, export.columns | map(attribute='name') | list -%}
    {%- set found = lakebed.found_in_export(export, fromjson(env_var('LAKEBED_ERASURE_SUBJECTS')), key_type) -%}
    {%- set changes = {} if table.delete else lakebed.erased_values(table, names) -%}
    {%- set bronze = load_relation(lakebed.lines_relation(table)) if table.lines_of and not table.delete -%}
    {%- if table.lines_of and not table.delete -%}
        {#- The line as bronze has it by now; none when retention has removed it. -#}
        {%- do changes.update({'_record': "coalesce(l._record, '')" if bronze else "''"}) -%}
    {%- endif -%}
    {%- set selected = [] -%}
    {%- for column in export.columns -%}
        {%- set own = 't.' ~ adapter.quote(column.name) -%}
        {%- set value = 'case when ' ~ found.theirs ~ ' then ' ~ changes[column.name] ~ ' else ' ~ own ~ ' end' if column.name in changes else own -%}
        {%- do selected.append('cast(' ~ value ~ ' as ' ~ column.type ~ ') as ' ~ adapter.quote(column.name)) -%}
    {%- endfor -%}
    {%- set gone = '(' ~ found.theirs ~ ' or ' ~ found.lost ~ ')' if table.delete else found.lost -%}
    {%- set rows = 'select ' ~ selected | join(', ') ~ ' from ' ~ lakebed.parquet_files(export.folder) ~ ' as t'
        ~ (' left join ' ~ bronze ~ ' as l on ' ~ lakebed.same_line() if bronze else '') ~ ' where not coalesce(' ~ gone ~ ', false)' -%}
    {%- set digest = lakebed.write_checked(rows, export.columns, folder) -%}
    {%- if not digest -%}
        {{ exceptions.raise_compiler_error("Lakebed: the rows of " ~ export.name ~ " are not the same in new files; it is as it was. Run the same command again.") }}
    {%- endif -%}
    {%- do print('LAKEBED ' ~ tojson({'rows': digest[0], 'digest': digest[1]})) -%}
{% endmacro %}
