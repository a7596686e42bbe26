{#- The subject in lines of text: python/lakebed/erase/lines.py in SQL. -#}

{#- How the subject stands in the lines of the current model: from the tag of its column `_record`
    (`meta: {subject: household, line_of: silver_shop__orders}`) and from its policy.
    Returns: {subject, names, data_type, replace}; none when the model's lines name nobody. -#}
{% macro line_rule() %}
    {%- if not execute or not model -%}{{- return(none) -}}{%- endif -%}
    {%- set tag = model.columns.get('_record', {}) -%}
    {%- set tag = tag.get('config', {}).get('meta') or tag.get('meta') or {} -%}
    {%- if 'line_of' not in tag -%}{{- return(none) -}}{%- endif -%}
    {%- set read = graph.nodes.values() | selectattr('name', 'equalto', tag.line_of) | first -%}
    {%- set rule = {'subject': tag.subject, 'names': none, 'data_type': none, 'replace': none} -%}
    {%- set names = {} -%}
    {%- for column in read.columns.values() -%}
        {%- set meta = column.config.meta or column.meta or {} -%}
        {%- do names.update({column.name: [column.name] + meta.get('aliases', [])}) -%}
        {%- if meta.get('subject') == tag.subject and 'lines_from' not in meta -%}
            {%- do rule.update({'names': names[column.name], 'data_type': column.data_type or 'string'}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set policy = (config.get('meta') or {}).get('erase', {}).get(tag.subject) -%}
    {%- if policy is mapping -%}
        {%- set replace = [] -%}
        {%- for column, value in policy.anonymise.items() -%}
            {%- do replace.append([names[column], '' if value is none else value | string]) -%}
        {%- endfor -%}
        {%- do rule.update({'replace': replace}) -%}
    {%- endif -%}
    {{- return(rule) -}}
{% endmacro %}

{#- The text of a key as its type writes it. -#}
{% macro normal_key(text, data_type) -%}
    {%- if data_type in ['string', 'varchar', 'text'] -%}
    trim({{ text }})
    {%- else -%}
    coalesce({{ lakebed.to_text(lakebed.parse_value('trim(' ~ text ~ ')', data_type)) }}, trim({{ text }}))
    {%- endif -%}
{%- endmacro %}

{#- Lines of files without those who were erased: a late or replayed file does not bring them back.
    What the policy of the model says is done to each of their lines. Costs one query when nobody
    was erased, one keyed hash a line else.
    Arguments: lines, a select with _record and _header.
    Returns: the same select. Used by landed_lines. Engines: DuckDB, Spark. -#}
{% macro without_erased(lines) %}
    {%- set rule = lakebed.line_rule() -%}
    {#- dbt's partial parse has lost the YAML of models that did not change (ADR 6): no word of it is not
        a word that lines name nobody. -#}
    {%- if execute and (not rule and not model.patch_path or rule and not rule.names) and load_relation(lakebed.erasures()) -%}
        {{ exceptions.raise_compiler_error("Lakebed: people were erased from this lake, and no YAML says whose lines " ~ model.name ~ " holds: describe the model (docs/erasure.md), or run dbt with --no-partial-parse. Nothing was loaded.") }}
    {%- endif -%}
    {%- if not rule or not lakebed.has_erasures(rule.subject) -%}
        {{- return(lines) -}}
    {%- endif -%}
    {%- set erased = "select subject_hash from " ~ lakebed.erasures() ~ " where state = 'started' and subject = " ~ lakebed.text_literal(rule.subject) -%}
    {%- set found -%}
    with received as (
        {{ lines }}
    ),

    judged as (
        select
            *,
            {{ lakebed.array_size(lakebed.csv_fields('_record')) }} = {{ lakebed.array_size(lakebed.csv_fields('_header')) }} as _is_well_formed,
            {{ lakebed.csv_field(lakebed.csv_fields('_record'), lakebed.csv_fields('_header'), rule.names) }} as _key
        from received
    ),

    known as (
        select
            *,
            coalesce(case when _is_well_formed then {{ lakebed.subject_hash(rule.subject, lakebed.normal_key('_key', rule.data_type)) }} end in ({{ erased }}), false) as _is_erased,
            case when not _is_well_formed then {{ lakebed.part_hashes('_record', rule.subject, rule.data_type) }} end as _parts
        from judged
    ),

    marked as (
        select
            *,
            coalesce({{ lakebed.arrays_meet('_parts', '(select ' ~ lakebed.list_of('subject_hash') ~ ' from (' ~ erased ~ ') as erased)') }}, false) as _is_lost
        from known
    )

    select
        {{ lakebed.star_except(['_record', '_is_well_formed', '_key', '_is_erased', '_is_lost', '_parts']) }},
        {%- if rule.replace %}
        case when _is_erased then {{ lakebed.csv_with('_record', '_header', rule.replace) }} else _record end as _record
        {%- else %}
        _record
        {%- endif %}
    from marked
    where not _is_lost
        {%- if not rule.replace %}
        and not _is_erased
        {%- endif %}
    {%- endset -%}
    {{- return(found) -}}
{% endmacro %}
