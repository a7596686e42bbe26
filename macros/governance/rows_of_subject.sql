{#- Whose rows are: what erasure, exports and imports ask of a table. Engines: DuckDB, Spark. -#}

{#- Whose a row (alias t) is, as text: an expression for each place of a table that says so. The first
    are those of `table['keys']`, in their order; the last is that of its line, when it has one. -#}
{% macro keys_in_row(table) %}
    {%- set texts = [] -%}
    {%- for column in table['keys'] -%}
        {%- if table.stream -%}
            {%- do texts.append(lakebed.normal_key(lakebed.json_field('t._record', column.field) if column.field else 't._key', column.data_type)) -%}
        {%- else -%}
            {%- do texts.append('trim(' ~ lakebed.to_text('t.' ~ adapter.quote(column.name)) ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if table.line -%}
        {%- set field = lakebed.csv_field_in_condition(lakebed.csv_fields('t._record'), lakebed.csv_fields('t._header'), table.line.fields) -%}
        {%- do texts.append('case when ' ~ lakebed.line_is_well_formed() ~ ' then ' ~ lakebed.normal_key(field, table.line.data_type) ~ ' end') -%}
    {%- endif -%}
    {{- return(texts) -}}
{% endmacro %}

{% macro line_is_well_formed() -%}
    {{ lakebed.array_size(lakebed.csv_fields('t._record')) }} = {{ lakebed.array_size(lakebed.csv_fields('t._header')) }}
{%- endmacro %}

{#- Conditions on a table (alias t): `theirs`, the rows of the subjects; `lost`, those whose line is not
    well formed and names one of them somewhere: no policy but to delete them makes sense. -#}
{% macro rows_of_subject(table, keys) %}
    {%- set texts = [] -%}
    {%- for key in keys -%}{%- do texts.append(lakebed.text_literal(key)) -%}{%- endfor -%}
    {%- set among = ' in (' ~ texts | join(', ') ~ ')' -%}
    {%- set theirs, lost = [], ['false'] -%}
    {%- set own = lakebed.keys_in_row(table) -%}
    {#- Of a stream: what cannot be read cannot be anonymised either. -#}
    {%- set paths = lakebed.paths_of(table.patch or {}) + table['keys'] | selectattr('field') | map(attribute='field') | list if table.stream else [] -%}
    {%- set unreadable = '(t._record is not null and (not ' ~ lakebed.is_json('t._record') ~ ' or ' ~ lakebed.json_name_twice('t._record', lakebed.parents_of(paths)) ~ '))' -%}
    {%- for column in table['keys'] -%}
        {%- if column.data_type in ['tinyint', 'smallint', 'int', 'integer', 'bigint'] and not table.stream -%}
            {#- As numbers, by which files are left out. -#}
            {%- set numbers = [] -%}
            {%- for key in keys if modules.re.match('[+-]?[0-9]{1,18}$', key) -%}{%- do numbers.append(key | int | string) -%}{%- endfor -%}
            {%- do theirs.append('t.' ~ adapter.quote(column.name) ~ ' in (' ~ numbers | join(', ') ~ ')' if numbers else 'false') -%}
        {%- else -%}
            {%- do theirs.append('(' ~ own[loop.index0] ~ among ~ ')') -%}
        {%- endif -%}
        {%- if table.stream and column.field -%}
            {%- do lost.append('(' ~ unreadable ~ ' and ' ~ lakebed.record_names_any(['t._record'], keys, column.data_type) ~ ')') -%}
        {%- elif table.stream and table.patch -%}
            {%- do lost.append('(' ~ unreadable ~ ' and ' ~ theirs[-1] ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if table.line -%}
        {%- do theirs.append('(' ~ own[-1] ~ among ~ ')') -%}
        {%- do lost.append('(not ' ~ lakebed.line_is_well_formed() ~ ' and ' ~ lakebed.any_part('t._record', lakebed.normal_key('part', table.line.data_type) ~ among) ~ ')') -%}
    {%- elif table.lines_of and table.judged -%}
        {%- do lost.append("(t.broken_rules = 'malformed_line' and " ~ lakebed.any_part('t._record', lakebed.normal_key('part', table['keys'][0].data_type or 'string') ~ among) ~ ')') -%}
    {%- endif -%}
    {{- return({'theirs': '(' ~ theirs | join(' or ') ~ ')', 'lost': '(' ~ lost | join(' or ') ~ ')'}) -}}
{% endmacro %}
