{#- What erasure needs of an engine. -#}

{#- The keyed hash of a subject, HMAC-SHA256 as lakebed.erase.hashing makes it. The key comes from the
    environment (LAKEBED_ERASURE_KEY) into the session, and never into SQL.
    Arguments: subject, its kind; text, a SQL expression: the key as its type writes it.
    Returns: SQL expression, 64 hexadecimal digits; NULL for NULL. Engines: DuckDB, Spark.
    Example: {{ lakebed.subject_hash('household', 'household_id') }} -#}
{% macro subject_hash(subject, text) %}{{- return(adapter.dispatch('subject_hash', 'lakebed')(subject, text)) -}}{% endmacro %}

{% macro duckdb__subject_hash(subject, text) -%}
    sha256(unhex(getvariable('lakebed_erasure_outer')) || unhex(sha256(unhex(getvariable('lakebed_erasure_inner')) || encode({{ lakebed.text_literal(subject ~ ':') }} || {{ text }}))))
{%- endmacro %}

{% macro spark__subject_hash(subject, text) -%}
    sha2(concat(unhex('${spark.lakebed.erasure.outer}'), unhex(sha2(concat(unhex('${spark.lakebed.erasure.inner}'), cast(concat({{ lakebed.text_literal(subject ~ ':') }}, {{ text }}) as binary)), 256))), 256)
{%- endmacro %}

{#- What tells the session's key from another: SQL expression, NULL without a key. -#}
{% macro erasure_key_id() %}{{- return(adapter.dispatch('erasure_key_id', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__erasure_key_id() -%} getvariable('lakebed_erasure_key_id') {%- endmacro %}
{% macro spark__erasure_key_id() -%} nullif('${spark.lakebed.erasure.key_id}', '') {%- endmacro %}

{#- A CSV line with other texts in some fields. Arguments: line and header, SQL expressions; replace, a
    list of [header names, text]. Returns: SQL expression of type string. Engines: DuckDB, Spark. -#}
{% macro csv_with(line, header, replace) %}{{- return(adapter.dispatch('csv_with', 'lakebed')(line, header, replace)) -}}{% endmacro %}

{% macro duckdb__csv_with(line, header, replace) -%}
    array_to_string(list_transform(
        {{ lakebed.csv_fields(line) }},
        lambda field, place: case
            {%- for names, text in replace %}
            when place = coalesce({% for name in names %}list_position({{ lakebed.csv_fields(header) }}, {{ lakebed.text_literal(name) }}), {% endfor %}0) then {{ lakebed.text_literal(lakebed.csv_quoted(text)) }}
            {%- endfor %}
            when contains(field, ',') or contains(field, '"') then '"' || replace(field, '"', '""') || '"'
            else field
        end
    ), ',')
{%- endmacro %}

{% macro spark__csv_with(line, header, replace) -%}
    array_join(transform(
        {{ lakebed.csv_fields(line) }},
        (field, place) -> case
            {%- for names, text in replace %}
            when place + 1 = coalesce({% for name in names %}nullif(array_position({{ lakebed.csv_fields(header) }}, {{ lakebed.text_literal(name) }}), 0), {% endfor %}0) then {{ lakebed.text_literal(lakebed.csv_quoted(text)) }}
            {%- endfor %}
            when contains(field, ',') or contains(field, '"') then concat('"', replace(field, '"', '""'), '"')
            else field
        end
    ), ',')
{%- endmacro %}

{% macro csv_quoted(text) %}
    {{- return('"' ~ text | replace('"', '""') ~ '"' if ',' in text or '"' in text else text) -}}
{% endmacro %}

{#- Whether any part of a text that nothing says how to read holds a condition: it is split at every
    separator there is. Arguments: text, SQL expression; condition, of a part named `part`;
    separators, a regular expression. -#}
{% macro any_part(text, condition, separators='[,;|\\t"]') %}{{- return(adapter.dispatch('any_part', 'lakebed')(text, condition, separators)) -}}{% endmacro %}

{% macro duckdb__any_part(text, condition, separators) -%}
    len(list_filter(list_transform(string_split_regex({{ text }}, {{ lakebed.text_literal(separators) }}), lambda piece: trim(piece)), lambda part: {{ condition }})) > 0
{%- endmacro %}

{% macro spark__any_part(text, condition, separators) -%}
    exists(transform(split({{ text }}, {{ lakebed.text_literal(separators) }}), piece -> trim(piece)), part -> {{ condition }})
{%- endmacro %}

{#- The keyed hashes of all parts of a line that is not well formed. Returns: SQL array. -#}
{% macro part_hashes(line, subject, data_type) %}{{- return(adapter.dispatch('part_hashes', 'lakebed')(line, subject, data_type)) -}}{% endmacro %}
{% macro duckdb__part_hashes(line, subject, data_type) -%}
    list_transform(string_split_regex({{ line }}, '[,;|\t"]'), lambda part: {{ lakebed.subject_hash(subject, lakebed.normal_key('part', data_type)) }})
{%- endmacro %}
{% macro spark__part_hashes(line, subject, data_type) -%}
    transform(split({{ line }}, r'[,;|\t"]'), part -> {{ lakebed.subject_hash(subject, lakebed.normal_key('part', data_type)) }})
{%- endmacro %}

{% macro arrays_meet(one, other) %}{{- return(adapter.dispatch('arrays_meet', 'lakebed')(one, other)) -}}{% endmacro %}
{% macro duckdb__arrays_meet(one, other) -%} list_has_any({{ one }}, {{ other }}) {%- endmacro %}
{% macro spark__arrays_meet(one, other) -%} arrays_overlap({{ one }}, {{ other }}) {%- endmacro %}

{% macro list_of(column) %}{{- return(adapter.dispatch('list_of', 'lakebed')(column)) -}}{% endmacro %}
{% macro duckdb__list_of(column) -%} list({{ column }}) {%- endmacro %}
{% macro spark__list_of(column) -%} collect_list({{ column }}) {%- endmacro %}
