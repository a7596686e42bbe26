{#- The log of erasures: append-only, without personal data. A subject is known by its keyed hash only.
    `started`: one row for each subject, in the transaction that erases the rows; from then on it is
    suppressed. `complete`: files, history and catalogue are free of it, too. -#}
{% macro erasures() -%}
    {{- return(lakebed.ops_relation('erasures')) -}}
{%- endmacro %}

{% macro create_erasures() %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.erasures().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.erasures() ~ ' (request_id ' ~ text ~ ', state ' ~ text ~ ', subject ' ~ text ~ ', subject_hash ' ~ text ~ ', key_id ' ~ text ~ ', table_counts ' ~ text ~ ', row_count bigint, file_count bigint, recorded_at timestamp)' ~ lakebed.using_format()) -%}
{% endmacro %}

{#- Whether anybody of this kind was erased: one small query, so that a lake without erasures pays
    nothing. Refuses a session whose key is not the one that the subjects were hashed with. -#}
{% macro has_erasures(subject) %}
    {%- if not execute or not load_relation(lakebed.erasures()) -%}{{- return(false) -}}{%- endif -%}
    {%- set found = run_query("select count(*), count(case when key_id is distinct from " ~ lakebed.erasure_key_id() ~ " then 1 end) from " ~ lakebed.erasures() ~ " where state = 'started' and subject = " ~ lakebed.text_literal(subject)).rows[0] -%}
    {%- if found[1] | int > 0 -%}
        {{ exceptions.raise_compiler_error("Lakebed: subjects of kind '" ~ subject ~ "' were erased from this lake, and LAKEBED_ERASURE_KEY is not the key they were erased with (or is not set): without it they would come back.") }}
    {%- endif -%}
    {{- return(found[0] | int > 0) -}}
{% endmacro %}
