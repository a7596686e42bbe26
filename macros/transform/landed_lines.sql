{#- The lines of the files that landed since this bronze model last ran: file-drop
    micro-batch (pat-file-drop-microbatch). Each file is loaded once; run it twice, or kill it
    and run it again, and the table is the same.
    Arguments: source and entity, the two folders below the landing folder.
    Returns: a select with one row a line: _source, _file_id, _file_name, _line (the header is
    line 1 and not a row), _header, _record (as received), _record_hash, _batch_id, ingested_at.
    Use it in an incremental model with `incremental_strategy: append`. Engines: DuckDB, Spark.
    Example: {{ lakebed.landed_lines('retail', 'transactions') }} -#}
{% macro landed_lines(source, entity) %}
    {%- set manifest = ref('lakebed', 'bronze_landing__files') -%}
    {%- set new_files -%}
        select * from {{ manifest }}
        where source = '{{ source }}'
            and entity = '{{ entity }}'
            and status = 'ready'
            {%- if is_incremental() %}
            and batch_id > (select coalesce(max(_batch_id), 0) from {{ this }})
            {%- endif %}
    {%- endset -%}
    {%- set files = [] -%}
    {#- The manifest is not there yet when a fresh project is compiled or linted. -#}
    {%- if execute and load_relation(manifest) -%}
        {%- for row in run_query('select path, encoding from (' ~ new_files ~ ') as new_files order by file_name') -%}
            {%- do files.append({'path': row[0], 'encoding': row[1]}) -%}
        {%- endfor -%}
    {%- endif %}
with new_files as (
    {{ new_files }}
),
{% if files %}
lines as (
    {{ lakebed.read_lines(files) }}
),
{% endif %}
received as (
    select
        new_files.source as _source,
        new_files.file_id as _file_id,
        new_files.file_name as _file_name,
        {%- if files %}
        cast(lines.line as bigint) as _line,
        new_files.header as _header,
        lines.record as _record,
        {%- else %}
        cast(null as bigint) as _line,
        new_files.header as _header,
        cast(null as {{ dbt.type_string() }}) as _record,
        {%- endif %}
        new_files.batch_id as _batch_id,
        new_files.ingested_at
    from new_files
    {%- if files %}
    inner join lines on new_files.path = lines.path
    where lines.line > 1 and lines.record is not null
    {%- else %}
    where false
    {%- endif %}
),

kept as (
    {{ lakebed.without_erased('select * from received') }}
),

final as (
    select
        _source,
        _file_id,
        _file_name,
        _line,
        _header,
        _record,
        md5(_record) as _record_hash,
        _batch_id,
        ingested_at
    from kept
)

select * from final
{% endmacro %}
