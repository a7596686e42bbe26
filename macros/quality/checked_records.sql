{#- JSON records of a stream, typed and judged: what checked_rows is for lines of files. Every record
    comes out once; nothing is dropped and nothing raises.
    Arguments: bronze, a table of `lakebed stream` or `lakebed webhook`; silver, the name of the model
    whose YAML declares the columns (data_type; not_null; meta aliases, formats) and meta.rules; where,
    an optional condition on bronze.
    Returns: a select of the declared columns, what bronze has but _headers, _row_hash (of the declared
    columns) and broken_rules: NULL for a valid record, else the names among `missing_<column>`,
    `invalid_<column>` and the rules. Engines: DuckDB, Spark.
    Example: {{ lakebed.checked_records(source('web', 'web__clicks'), 'silver_web__clicks') }} -#}
{% macro checked_records(bronze, silver, where=none) %}
{%- set spec = lakebed.model_spec(silver) %}
{%- set columns = spec.columns %}
{%- set kept = ['_source', '_topic', '_topic_partition', '_offset', '_key', '_record', '_sent_at', '_batch_id', 'ingested_at'] %}
{%- set problems = [] %}
with texts as (
    select
        {%- for column in columns %}
        coalesce({% for name in column.names %}{{ lakebed.json_text('_record', name) }}, {% endfor %}null) as _text_{{ column.name }},
        {%- endfor %}
        {{ kept | join(',\n        ') }}
    from {{ bronze }}
    {%- if where %}
    where {{ where }}
    {%- endif %}
),
typed as (
    select
        *
        {%- for column in columns %},
        {{ lakebed.parse_value('_text_' ~ column.name, column.data_type, column.formats) }} as {{ column.name }}
            {%- if column.required %}
                {%- do problems.append("case when _text_" ~ column.name ~ " is null then 'missing_" ~ column.name ~ "' end") %}
            {%- endif %}
            {%- if column.data_type not in ['string', 'varchar', 'text'] %}
                {%- do problems.append("case when _text_" ~ column.name ~ " is not null and " ~ column.name ~ " is null then 'invalid_" ~ column.name ~ "' end") %}
            {%- endif %}
        {%- endfor %}
    from texts
),
final as (
    select
        {%- for column in columns %}
        {{ column.name }},
        {%- endfor %}
        {{ kept | join(',\n        ') }},
        {{ lakebed.surrogate_key(columns | map(attribute='name') | list) if columns else "''" }} as _row_hash,
        {{ lakebed.computed_once(lakebed.broken_rules(spec.rules, problems)) }} as broken_rules
    from typed
)

select * from final
{% endmacro %}
