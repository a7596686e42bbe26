{#- Reads text files line by line, as they are.
    Arguments: files, a list of {path, encoding} (utf-8, utf-16, latin-1; .gz is read as such).
    Returns: a select of path, line (1 is the first), record (text without its line end);
    empty lines are left out but counted. Engines: DuckDB; Spark follows.
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
