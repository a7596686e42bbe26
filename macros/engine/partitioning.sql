{#- A table's partitions in the words of the engine, as a list of texts; an error for what it cannot do.
    Arguments: terms, from partition_terms. -#}
{% macro partition_list(terms) %}{{- return(adapter.dispatch('partition_list', 'lakebed')(terms)) -}}{% endmacro %}

{#- DuckLake's month(c) is 1 to 12 of whatever year, so that a month is a year and a month. -#}
{% macro duckdb__partition_list(terms) %}
    {%- set parts = ['year', 'month', 'day', 'hour'] -%}
    {%- set found = [] -%}
    {%- for term in terms -%}
        {%- set column = adapter.quote(term.column) -%}
        {%- if term.transform == 'identity' -%}
            {%- do found.append(column) -%}
        {%- elif term.transform == 'bucket' -%}
            {%- do found.append('bucket(' ~ term.size ~ ', ' ~ column ~ ')') -%}
        {%- elif term.transform in parts -%}
            {%- for part in parts[:parts.index(term.transform) + 1] -%}{%- do found.append(part ~ '(' ~ column ~ ')') -%}{%- endfor -%}
        {%- else -%}
            {{ exceptions.raise_compiler_error("Lakebed: DuckLake has no " ~ term.transform ~ "(" ~ term.size ~ ", " ~ term.column ~ "), which partition_by of " ~ this.schema ~ "." ~ this.identifier ~ " asks for: partition by a column that holds it, or by bucket, year, month, day or hour (docs/layout.md).") }}
        {%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Delta's partitions are columns. One that is made of another cannot be hidden: it would be in the
    table, and in no contract (docs/decisions/0018). -#}
{% macro spark__partition_list(terms) %}
    {%- set iceberg = config.get('file_format') == 'iceberg' -%}
    {%- set plurals = {'year': 'years', 'month': 'months', 'day': 'days', 'hour': 'hours'} -%}
    {%- set found = [] -%}
    {%- for term in terms -%}
        {%- set column = adapter.quote(term.column) -%}
        {%- if term.transform == 'identity' -%}
            {%- do found.append(column) -%}
        {%- elif not iceberg -%}
            {%- set text = term.transform ~ '(' ~ (term.size ~ ', ' if term.size else '') ~ term.column ~ ')' -%}
            {{ exceptions.raise_compiler_error("Lakebed: Delta partitions by columns, and has no " ~ text ~ ", which partition_by of " ~ this.schema ~ "." ~ this.identifier ~ " asks for: give the model a column that holds it, or order the files instead with meta.maintain.cluster_by (docs/layout.md).") }}
        {%- elif term.size -%}
            {%- do found.append(term.transform ~ '(' ~ term.size ~ ', ' ~ column ~ ')') -%}
        {%- else -%}
            {%- do found.append(plurals[term.transform] ~ '(' ~ column ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- How a table that is there is partitioned, in the same words. -#}
{% macro stored_partitions(relation) %}{{- return(adapter.dispatch('stored_partitions', 'lakebed')(relation)) -}}{% endmacro %}

{% macro duckdb__stored_partitions(relation) %}
    {%- set metadata = adapter.quote('__ducklake_metadata_' ~ relation.database) -%}
    {%- set rows = run_query(
        'select keys.transform, columns.column_name from ' ~ metadata ~ '.ducklake_table as tables'
        ~ ' inner join ' ~ metadata ~ '.ducklake_schema as schemas on tables.schema_id = schemas.schema_id and schemas.end_snapshot is null'
        ~ ' inner join ' ~ metadata ~ '.ducklake_partition_info as parts on tables.table_id = parts.table_id and parts.end_snapshot is null'
        ~ ' inner join ' ~ metadata ~ '.ducklake_partition_column as keys on parts.partition_id = keys.partition_id and parts.table_id = keys.table_id'
        ~ ' inner join ' ~ metadata ~ '.ducklake_column as columns on keys.column_id = columns.column_id and keys.table_id = columns.table_id and columns.end_snapshot is null'
        ~ ' where tables.end_snapshot is null and schemas.schema_name = ' ~ lakebed.text_literal(relation.schema) ~ ' and tables.table_name = ' ~ lakebed.text_literal(relation.identifier)
        ~ ' order by keys.partition_key_index'
    ).rows -%}
    {%- set found = [] -%}
    {%- for transform, name in rows -%}
        {%- set column = adapter.quote(name) -%}
        {%- set size = modules.re.findall('[0-9]+', transform) -%}
        {%- do found.append(column if transform == 'identity' else 'bucket(' ~ size[0] ~ ', ' ~ column ~ ')' if size else transform ~ '(' ~ column ~ ')') -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{% macro spark__stored_partitions(relation) %}
    {%- set found = [] -%}
    {%- if config.get('file_format') == 'iceberg' -%}
        {%- for row in run_query('describe extended ' ~ relation).rows if modules.re.fullmatch('Part [0-9]+', row[0]) -%}
            {%- set transform, size, name = modules.re.fullmatch('(?:(\\w+)\\()?(?:([0-9]+), )?(.*?)\\)?', row[1] | replace('`', '')).groups() -%}
            {%- set column = adapter.quote(name) -%}
            {%- do found.append(column if not transform else transform ~ '(' ~ (size ~ ', ' if size else '') ~ column ~ ')') -%}
        {%- endfor -%}
    {%- else -%}
        {#- A list from one driver, its text from another. -#}
        {%- set names = run_query('describe detail ' ~ relation).rows[0]['partitionColumns'] -%}
        {%- for name in (modules.re.findall('[^\\[\\]",]+', names) if names is string else names) -%}{%- do found.append(adapter.quote(name | trim)) -%}{%- endfor -%}
    {%- endif -%}
    {{- return(found) -}}
{% endmacro %}

{#- dbt-duckdb makes the table empty, partitions it and then fills it, all in one transaction, and hands
    on what `partition_by` says as it is. Here it is said in DuckLake's words; its own `partitioned_by` is
    left as it is. -#}
{% macro duckdb__create_table_as(temporary, relation, compiled_code, language='sql', partitioned_by=none, sorted_by=none) -%}
    {%- if partitioned_by and not config.get('partitioned_by') -%}
        {%- set terms = lakebed.partition_terms() -%}
        {%- set partitioned_by = lakebed.partition_list(terms) | join(', ') -%}
        {%- if language == 'sql' -%}{%- do lakebed.check_partition_columns(terms, compiled_code) -%}{%- endif -%}
    {%- elif temporary and adapter.is_ducklake(this) -%}
        {%- do lakebed.check_partitioning() -%}
    {%- endif -%}
    {{ dbt.duckdb__create_table_as(temporary, relation, compiled_code, language, partitioned_by, sorted_by) }}
{%- endmacro %}

{% macro spark__create_table_as(temporary, relation, compiled_code, language='sql') -%}
    {%- set terms = lakebed.partition_terms() -%}
    {%- if terms and language == 'python' -%}
        {{ exceptions.raise_compiler_error("Lakebed: a Python model's table is made by its frame, which dbt-spark gives no partitions: select from " ~ model.name ~ " in a SQL model, and give that one the partition_by.") }}
    {%- elif temporary and config.get('file_format') in ['delta', 'iceberg'] -%}
        {%- do lakebed.check_partitioning() -%}
    {%- elif terms and not temporary -%}
        {%- do lakebed.check_partition_columns(terms, compiled_code) -%}
    {%- endif -%}
    {{ dbt.spark__create_table_as(temporary, relation, compiled_code, language) }}
{%- endmacro %}

{% macro spark__partition_cols(label, required=false) %}
    {%- set parts = lakebed.partition_list(lakebed.partition_terms()) -%}
    {%- if parts %}{{ label }} ({{ parts | join(', ') }}){% endif -%}
{% endmacro %}

{#- File sizes are a table's own where the format can do that: meta.maintain.target_mb on Iceberg. Delta
    cuts a partition into as many files as there are tasks, unless it gathers the rows first. -#}
{% macro add_file_properties(properties) %}
    {%- set target_mb = (config.get('meta', {}).get('maintain') or {}).get('target_mb') -%}
    {%- if config.get('file_format') == 'iceberg' and target_mb -%}
        {%- do properties.setdefault('write.target-file-size-bytes', target_mb * 1000000) -%}
    {%- elif config.get('file_format') == 'delta' and lakebed.partition_terms() -%}
        {%- do properties.setdefault('delta.autoOptimize.optimizeWrite', 'true') -%}
    {%- endif -%}
{% endmacro %}
