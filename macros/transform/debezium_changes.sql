{#- Changes as Debezium writes them (`lakebed capture`, or its topics in Kafka), typed and judged. Each
    event comes out once; nothing is dropped and nothing raises.
    Arguments: bronze, a relation with the events in _record; silver, the name of the model
    whose YAML declares the columns and meta.rules, as in checked_rows; where, an optional
    condition on bronze; form, how the events are written: envelope; schema, the envelope beside its
    schema (the JSON converter's default); or unwrapped, the row alone (ExtractNewRecordState), with
    the fields that docs/cdc.md names.
    Returns: a select of the declared columns (after the change; of a delete what the row was), and
      _op            c, u, d, r (read by a snapshot), t (truncated: without columns);
      _position      text that sorts as the log does, by commits, whatever order the events came in:
                     a mark of `lakebed capture`, then what the snapshot read, then changes;
      _event_id      text that the same event has when it comes again: deduplicate by it and the keys;
      _is_deleted    true for d and t;
      _committed_at  when the transaction was committed (UTC);
      _record, _source, _batch_id, ingested_at as in bronze;
      broken_rules   NULL for a valid change, else malformed_event, missing_<column>, invalid_<column>,
                     the rules' names, or unknown_<column>: a long value that did not change, which
                     the log does not say without `replica identity full`.
    Decimals and times are ISO texts, as `lakebed capture` sets the engine; for Debezium's numbers
    name a column's meta.formats: epoch_days, epoch_ms, epoch_us. Engines: DuckDB, Spark.
    Example: {{ lakebed.debezium_changes(source('saas', 'users'), 'silver_saas__user_changes') }} -#}
{% macro debezium_changes(bronze, silver, where=none, form='envelope') %}
{%- if form not in ['envelope', 'schema', 'unwrapped'] %}
    {{- exceptions.raise_compiler_error("Lakebed: debezium_changes: form is envelope, schema or unwrapped, not '" ~ form ~ "'.") }}
{%- endif %}
{%- set spec = lakebed.model_spec(silver) %}
{%- set columns = spec.columns %}
{%- set problems = [] %}
with events as (
    select
        {{ lakebed.debezium_text(['op'], form) }} as _op,
        {{ lakebed.parse_value(lakebed.debezium_text(['source', 'lsn'], form), 'bigint') }} as _lsn,
        {{ lakebed.debezium_text(['source', 'connector'], form) }} as _connector,
        {{ lakebed.parse_epoch(lakebed.debezium_text(['source', 'ts_us'], form), 'timestamp', 1) }} as _committed_at,
        coalesce({{ lakebed.parse_value(lakebed.debezium_text(['transaction', 'total_order'], form), 'bigint') }}, 0) as _order,
        {#- The commit before this one, or of a snapshot its own place: transactions overlap, commits do not. #}
        split_part({{ lakebed.debezium_text(['source', 'sequence'], form) }}, '"', 2) as _after,
        {%- for column in columns %}
        {% if form == 'unwrapped' -%}
        {{ lakebed.json_text('_record', column.name) }} as _text_{{ column.name }},
        {%- else -%}
        coalesce({{ lakebed.debezium_text(['after', column.name], form) }}, case when {{ lakebed.debezium_text(['op'], form) }} = 'd' then {{ lakebed.debezium_text(['before', column.name], form) }} end) as _text_{{ column.name }},
        {%- endif %}
        {%- endfor %}
        _record,
        _source,
        _batch_id,
        ingested_at
    from {{ bronze }}
    where
        _record is not null
        {%- if where %}
        and {{ where }}
        {%- endif %}
),
typed as (
    select
        *,
        concat(
            lpad(cast(_lsn as {{ dbt.type_string() }}), 20, '0'), '.',
            lpad(cast(case when _connector = 'lakebed' then 0 when _op = 'r' then 1 else _order + 2 end as {{ dbt.type_string() }}), 12, '0')
        ) as _event_id
        {%- for column in columns %}
        {%- set text = '_text_' ~ column.name %}
        {%- set known = "nullif(" ~ text ~ ", '__debezium_unavailable_value')" %}
        {%- if column.data_type == 'date' %}{% set known = "replace(" ~ known ~ ", 'Z', '')" %}{% endif %},
        {{ lakebed.parse_value(known, column.data_type, column.formats) }} as {{ column.name }}
            {%- do problems.append("case when " ~ text ~ " = '__debezium_unavailable_value' then 'unknown_" ~ column.name ~ "' end") %}
            {%- if column.required %}
                {%- do problems.append("case when " ~ text ~ " is null and _op != 'd' then 'missing_" ~ column.name ~ "' end") %}
            {%- endif %}
        {%- endfor %}
    from events
),
{%- for column in columns if column.data_type not in ['string', 'varchar', 'text'] %}
    {%- do problems.append("case when _text_" ~ column.name ~ " != '__debezium_unavailable_value' and " ~ column.name ~ " is null then 'invalid_" ~ column.name ~ "' end") %}
{%- endfor %}
final as (
    select
        {%- for column in columns %}
        {{ column.name }},
        {%- endfor %}
        _op,
        concat(lpad(coalesce(nullif(_after, ''), cast(_lsn as {{ dbt.type_string() }})), 20, '0'), '.', _event_id) as _position,
        _event_id,
        _op in ('d', 't') as _is_deleted,
        _committed_at,
        _record,
        _source,
        _batch_id,
        ingested_at,
        {%- set verdict %}
        case
            when _op is null or _op not in ('c', 'u', 'd', 'r', 't') or _lsn is null then 'malformed_event'
            when _op = 't' then null
            else {{ lakebed.broken_rules(spec.rules, problems) }}
        end
        {%- endset %}
        {{- lakebed.computed_once(verdict) }} as broken_rules
    from typed
)

select * from final
{% endmacro %}

{#- The rows that are there now, of a table that keeps the newest change of each key (strategy `upsert`
    with keys, version _position and delete_flag _is_deleted). A truncate is a row of it without
    keys: what is older than the newest is gone, in whatever order they came.
    Arguments: relation. Returns: a select of its columns. Engines: DuckDB, Spark.
    Example: {{ lakebed.current_rows(ref('silver_saas__users_held')) }} -#}
{% macro current_rows(relation) %}
select * from {{ relation }}
where
    not _is_deleted
    and _position > coalesce((select max(_position) from {{ relation }} where _op = 't'), '')
{% endmacro %}

{#- All changes of debezium_changes, with each truncate made what it is to a history (scd2_from_changes): a
    delete of every key. The mark that `lakebed capture` sets before it reads all anew deletes only
    keys that are not read again.
    Arguments: changes, the name of a CTE; keys, a list of columns, without NULLs (a string is one);
    columns, a list of the other declared ones.
    Returns: a select of keys, columns, _op, _position, _is_deleted, _committed_at, _batch_id.
    Engines: DuckDB, Spark.
    Example: {{ lakebed.changes_by_key('changes', 'user_id', ['email', 'plan']) }} -#}
{% macro changes_by_key(changes, keys, columns) %}
{%- set keys = [keys] if keys is string else keys %}
{%- set added = ['_op', '_position', '_is_deleted', '_committed_at', '_batch_id'] %}
select {{ (keys + columns + added) | join(', ') }}
from {{ changes }}
where _op != 't'
union all
select
    {%- for key in keys %}
    event.{{ key }},
    {%- endfor %}
    {%- for column in columns %}
    null as {{ column }},
    {%- endfor %}
    {%- for column in added %}
    truncated.{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ changes }} as truncated
inner join {{ changes }} as event on event._op != 't' and truncated._op = 't'
group by
    {%- for key in keys %}
    event.{{ key }},
    {%- endfor %}
    {%- for column in added %}
    truncated.{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
{#- Of a mark, a key whose next event is that it was read again was there all the time. #}
having
    min(event._position) < truncated._position
    and not (
        truncated._position like '%.000000000000'
        and min(case when event._position > truncated._position then event._position end)
        is not distinct from
        min(case when event._position > truncated._position and event._op = 'r' then event._position end)
        and max(event._position) > truncated._position
    )
{% endmacro %}

{#- A field of an event, in the form that its writer chose. #}
{% macro debezium_text(path, form) %}
    {%- if form == 'unwrapped' -%}
        {{- return(lakebed.json_text('_record', '__' ~ path | join('_'))) -}}
    {%- endif -%}
    {{- return(lakebed.json_text('_record', (['payload'] if form == 'schema' else []) + path)) -}}
{% endmacro %}
