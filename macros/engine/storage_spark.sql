{#- On Spark a table's format says how a storage verb is done: storage_delta.sql, storage_iceberg.sql. -#}

{#- Of the ways to do a verb, the one of a table's format. A relation of `ref` does not know its format. -#}
{% macro by_format(relation, delta, iceberg) %}
    {%- if not execute -%}{{- return(delta) -}}{%- endif -%}
    {%- set found = relation if relation.is_delta or relation.is_iceberg else load_relation(relation) or relation -%}
    {{- return(iceberg if found.is_iceberg else delta) -}}
{% endmacro %}

{% macro spark__check_format(relation) %}
    {%- if not (relation.is_delta or relation.is_iceberg) -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation ~ " is no Delta or Iceberg table; the storage verbs on Spark need one.") }}
    {%- endif -%}
{% endmacro %}

{% macro spark__table_health(relation) %}
    {{- return(lakebed.by_format(relation, lakebed.delta_table_health, lakebed.iceberg_table_health)(relation)) -}}
{% endmacro %}

{% macro spark__compact(relation, where, target_mb, alone) %}
    {{- return(lakebed.by_format(relation, lakebed.delta_compact, lakebed.iceberg_compact)(relation, where, target_mb)) -}}
{% endmacro %}

{% macro spark__compact_sorted(relation, by, target_mb, alone) %}
    {%- set columns = [] -%}
    {%- for column in by -%}{%- do columns.append(adapter.quote(column)) -%}{%- endfor -%}
    {{- return(lakebed.by_format(relation, lakebed.delta_compact_sorted, lakebed.iceberg_compact_sorted)(relation, columns | join(', '), target_mb)) -}}
{% endmacro %}

{#- A table before its first snapshot is version 0 of an Iceberg table. -#}
{% macro spark__version_sql(relation, version, at) -%}
    {%- if at is not none -%}
        {{ relation }} timestamp as of '{{ lakebed.utc_moment(at) }}Z'
    {%- elif version | int == 0 and lakebed.by_format(relation, false, true) -%}
        (select * from {{ relation }} where false)
    {%- else -%}
        {{ relation }} version as of {{ version | int }}
    {%- endif -%}
{%- endmacro %}

{% macro spark__newest_version(relation) %}
    {{- return(lakebed.by_format(relation, lakebed.delta_newest_version, lakebed.iceberg_newest_version)(relation)) -}}
{% endmacro %}

{% macro spark__changes_sql(relation, first, last) -%}
    {{- return(lakebed.by_format(relation, lakebed.delta_changes_sql, lakebed.iceberg_changes_sql)(relation, first, last)) -}}
{%- endmacro %}

{% macro spark__version_of_tag(relation, name) %}
    {{- return(lakebed.by_format(relation, lakebed.default__version_of_tag, lakebed.iceberg_version_of_tag)(relation, name)) -}}
{% endmacro %}

{% macro spark__set_tag(relation, name, version) %}
    {{- return(lakebed.by_format(relation, lakebed.default__set_tag, lakebed.iceberg_set_tag)(relation, name, version)) -}}
{% endmacro %}

{% macro spark__remove_tag(relation, name) %}
    {{- return(lakebed.by_format(relation, lakebed.default__remove_tag, lakebed.iceberg_remove_tag)(relation, name)) -}}
{% endmacro %}

{% macro spark__restore_rows(relation, old, version, at) %}
    {{- return(lakebed.by_format(relation, lakebed.delta_restore_rows, lakebed.iceberg_restore_rows)(relation, old)) -}}
{% endmacro %}

{% macro spark__restore_interval(relation, old, condition) %}
    {{- return(lakebed.by_format(relation, lakebed.delta_restore_interval, lakebed.iceberg_restore_interval)(relation, old, condition)) -}}
{% endmacro %}

{#- Every refusal before the first table. -#}
{% macro spark__expire_tables(days, tables, dry_run) %}
    {%- set tables = tables or lakebed.stored_tables() -%}
    {%- set delta, iceberg = tables | selectattr('is_delta') | list, tables | selectattr('is_iceberg') | list -%}
    {%- for table in delta + iceberg -%}{%- do lakebed.check_promise(days, [table]) -%}{%- endfor -%}
    {%- if delta -%}{%- do lakebed.delta_expire(days, delta, dry_run) -%}{%- endif -%}
    {%- if iceberg -%}{%- do lakebed.iceberg_expire(days, iceberg, dry_run) -%}{%- endif -%}
{% endmacro %}
