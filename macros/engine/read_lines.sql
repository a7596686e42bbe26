{#- Reads text files line by line, as they are.
    Arguments: files, a list of {path, encoding} (utf-8, utf-16, latin-1; .gz is read as such).
    Returns: a select of path, line (1 is the first), record (text without its line end);
    empty lines are left out but counted. Engines: DuckDB, Spark.
    Example: select * from ({{ lakebed.read_lines([{'path': 'a.csv', 'encoding': 'utf-8'}]) }}) -#}
{% macro read_lines(files) %}
    {{- return(adapter.dispatch('read_lines', 'lakebed')(files)) -}}
{% endmacro %}

{#- One column, no quotes, and a delimiter that lakebed.landing refuses in a file: so every
    line comes as it is. Files are read in the order of the list, lines in theirs. -#}
{% macro duckdb__read_lines(files) %}
    {%- for group in files | groupby('encoding') %}
    select
        filename as path,
        number - min(number) over (partition by filename) + 1 as line,
        record
    from (
        select
            filename,
            record,
            row_number() over () as number
        from read_csv(
            [{% for file in group.list %}'{{ file.path | replace("'", "''") }}'{{ ", " if not loop.last }}{% endfor %}],
            columns = {'record': 'varchar'},
            encoding = '{{ group.grouper }}',
            filename = true,
            header = false,
            auto_detect = false,
            delim = '\x01',
            quote = '',
            escape = '',
            max_line_size = 67108864
        )
    )
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
{% endmacro %}

{#- Files are found by their names below their folder, which Spark percent-encodes. A large file is
    read in blocks, so lines are numbered by block, then within it. Bytes come as they are, and
    are decoded here. The line ends of UTF-16 are not those that a text file is split at: such a
    file is read as a whole. -#}
{% macro spark__read_lines(files) %}
    {%- set groups = {} -%}
    {%- for file in files if file.encoding != 'utf-16' -%}
        {%- set parts = file.path.rsplit('/', 1) -%}
        {%- do groups.setdefault((parts[0], file.encoding), []).append(lakebed.text_literal(parts[1])) -%}
    {%- endfor -%}
    {%- set name = "url_decode(replace(_metadata.file_name, '+', '%2B'))" -%}
    {%- set selects = [] -%}
    {%- for (folder, encoding), names in groups.items() -%}
        {%- set record = 'record' if encoding == 'utf-8' else "decode(cast(record as binary), 'ISO-8859-1')" -%}
        {%- set lines %}
    select
        concat({{ lakebed.text_literal(folder ~ '/') }}, name) as path,
        row_number() over (partition by name order by block, number) as line,
        nullif({{ record }}, '') as record
    from (
        select
            {{ name }} as name,
            _metadata.file_block_start as block,
            monotonically_increasing_id() as number,
            value as record
        from text.`{{ folder }}`
        where {{ name }} in ({{ names | join(', ') }})
    )
        {%- endset -%}
        {%- do selects.append(lines) -%}
    {%- endfor -%}
    {%- for file in files if file.encoding == 'utf-16' -%}
        {%- set view = 'lakebed_' ~ model.name ~ '_' ~ loop.index -%}
        {%- set glob = modules.re.sub('([\\\\*?{}\\[\\]])', '\\\\\\1', file.path) -%}
        {%- do run_query('create or replace temporary view ' ~ view ~ " using text options (wholetext 'true', path " ~ lakebed.text_literal(glob) ~ ')') -%}
        {%- set lines %}
    select
        {{ lakebed.text_literal(file.path) }} as path,
        number + 1 as line,
        nullif(record, '') as record
    from (
        select posexplode(split(decode(cast(value as binary), 'UTF-16'), r'\r\n|\n|\r')) as (number, record)
        from {{ view }}
    )
        {%- endset -%}
        {%- do selects.append(lines) -%}
    {%- endfor -%}
    {{ selects | join('\n    union all') }}
{% endmacro %}
