{#- Bronze lines, typed and judged: the permissive half of schema enforcement.
    Every line comes out once; nothing is dropped and nothing raises.
    Arguments: bronze, a relation made by landed_lines; silver, the name of the model whose YAML
    declares the columns (data_type; not_null; meta aliases, formats) and meta.rules; where, an
    optional condition on bronze.
    Returns: a select of the declared columns, _batch_id, _file_name, _line, _record, ingested_at,
    _row_hash (of the declared columns) and broken_rules: NULL for a valid row, else
    `malformed_line`, or the names among `missing_<column>`, `invalid_<column>` and the rules.
    Engines: DuckDB, Spark.
    Example: {{ lakebed.checked_rows(ref('bronze_shop__orders'), 'silver_shop__orders') }} -#}
{% macro checked_rows(bronze, silver, where=none) %}
{%- set spec = lakebed.model_spec(silver) %}
{%- set columns = spec.columns %}
with fields as (
    select
        *,
        {{ lakebed.csv_fields('_record') }} as _fields,
        {{ lakebed.csv_fields('_header') }} as _names
    from {{ bronze }}
    {%- if where %}
    where {{ where }}
    {%- endif %}
),
texts as (
    select
        {%- for column in columns %}
        {{ lakebed.csv_field('_fields', '_names', column.names) }} as _text_{{ column.name }},
        {%- endfor %}
        {{ lakebed.array_size('_fields') }} = {{ lakebed.array_size('_names') }} as _is_well_formed,
        _batch_id,
        _file_name,
        _line,
        _record,
        ingested_at
    from fields
),
typed as (
    select
        *
        {%- for column in columns %},
        case when _is_well_formed then {{ lakebed.parse_value('_text_' ~ column.name, column.data_type, column.formats) }} end as {{ column.name }}
        {%- endfor %}
    from texts
),
{%- set problems = [] %}
{%- for column in columns %}
    {%- if column.required %}
        {%- do problems.append("case when _text_" ~ column.name ~ " is null then 'missing_" ~ column.name ~ "' end") %}
    {%- endif %}
    {%- if column.data_type not in ['string', 'varchar', 'text'] %}
        {%- do problems.append("case when _text_" ~ column.name ~ " is not null and " ~ column.name ~ " is null then 'invalid_" ~ column.name ~ "' end") %}
    {%- endif %}
{%- endfor %}
final as (
    select
        {%- for column in columns %}
        {{ column.name }},
        {%- endfor %}
        _batch_id,
        _file_name,
        _line,
        _record,
        ingested_at,
        {{ lakebed.surrogate_key(columns | map(attribute='name') | list) if columns else "''" }} as _row_hash,
        {%- set verdict %}
        case
            when not _is_well_formed then 'malformed_line'
            else {{ lakebed.broken_rules(spec.rules, problems) }}
        end
        {%- endset %}
        {{- lakebed.computed_once(verdict) }} as broken_rules
    from typed
)

select * from final
{% endmacro %}
