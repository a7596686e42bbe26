{#- What a model's `partition_by` says, checked: a column or a list of columns, each by itself or in one of
      year(c) month(c) day(c) hour(c)    a time; month is that of a year, on every engine
      bucket(n, c)                       a hash of the value, n classes
      truncate(w, c)                     a range w wide, or the first w characters (Iceberg only)
    Iceberg's plurals (months) are known too. One declaration serves all engines; what an engine
    cannot do is refused in one line, before anything is written.
    Returns: a list of {transform, column, size}, or an empty one. Engines: DuckDB (DuckLake), Spark
    (Delta, Iceberg).
    Example: config(partition_by=['month(sold_at)', 'bucket(16, household_id)']) -#}
{% macro partition_terms() %}
    {%- set declared = config.get('partition_by') or [] -%}
    {%- set table = this.schema ~ '.' ~ this.identifier -%}
    {%- set terms, timed = [], [] -%}
    {%- for item in ([declared] if declared is string else declared) -%}
        {%- set found = modules.re.fullmatch('\\s*(?:(\\w+)\\s*\\(\\s*(?:([0-9]+)\\s*,)?)?\\s*(["`]?)([^"`(),]*[^"`(),\\s])\\3\\s*(\\)?)\\s*', item | string) -%}
        {%- if not found or (found.group(1) is none) != (not found.group(5)) -%}
            {{ exceptions.raise_compiler_error("Lakebed: partition_by '" ~ item ~ "' of " ~ table ~ " is no column, and no transform of one such as month(sold_at) or bucket(16, household_id); several are a list.") }}
        {%- endif -%}
        {%- set transform = (found.group(1) or 'identity') | lower -%}
        {%- set transform = {'years': 'year', 'months': 'month', 'days': 'day', 'hours': 'hour'}.get(transform, transform) -%}
        {%- set size = found.group(2) | int if found.group(2) else none -%}
        {%- if transform not in ['identity', 'year', 'month', 'day', 'hour', 'bucket', 'truncate'] -%}
            {{ exceptions.raise_compiler_error("Lakebed: partition_by '" ~ item ~ "' of " ~ table ~ ": there is no transform " ~ transform ~ "; there are year, month, day, hour, bucket and truncate.") }}
        {%- endif -%}
        {%- if (transform in ['bucket', 'truncate']) != (size is not none) or size == 0 -%}
            {{ exceptions.raise_compiler_error("Lakebed: partition_by '" ~ item ~ "' of " ~ table ~ ": " ~ ("write " ~ transform ~ "(16, column), with a whole number above 0" if transform in ['bucket', 'truncate'] else transform ~ " takes a column only") ~ ".") }}
        {%- endif -%}
        {%- if transform in ['year', 'month', 'day', 'hour'] -%}
            {%- if found.group(4) | lower in timed -%}
                {{ exceptions.raise_compiler_error("Lakebed: partition_by of " ~ table ~ " has two transforms of the time " ~ found.group(4) ~ "; the finer one is enough, month(c) is a month of a year.") }}
            {%- endif -%}
            {%- do timed.append(found.group(4) | lower) -%}
        {%- endif -%}
        {%- do terms.append({'transform': transform, 'column': found.group(4), 'size': size}) -%}
    {%- endfor -%}
    {{- return(terms) -}}
{% endmacro %}

{#- Before a table is made: that its query has the columns, and times where times are taken apart. -#}
{% macro check_partition_columns(terms, sql) %}
    {%- set table = this.schema ~ '.' ~ this.identifier -%}
    {%- set types = {} -%}
    {%- for column in get_column_schema_from_query(sql, config.get('sql_header')) -%}
        {%- do types.update({column.name | lower: column.dtype | string | lower}) -%}
    {%- endfor -%}
    {%- for term in terms -%}
        {%- set type = types.get(term.column | lower) -%}
        {%- if type is none -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ table ~ " has no column '" ~ term.column ~ "' to partition by; it has " ~ types | join(', ') ~ ".") }}
        {%- endif -%}
        {%- if (term.transform in ['year', 'month', 'day'] and not ('date' in type or 'timestamp' in type)) or (term.transform == 'hour' and not ('time' in type)) -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ table ~ " cannot be partitioned by " ~ term.transform ~ "(" ~ term.column ~ "): the column is of type " ~ type ~ ".") }}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}

{#- Before rows are added to a table: one line when it is laid out in another way than its model says now.
    It keeps its layout; rows of two layouts in one table would help no query. -#}
{% macro check_partitioning() %}
    {%- set terms = lakebed.partition_terms() -%}
    {%- if terms and execute and config.get('materialized') == 'incremental' -%}
        {%- set wanted = lakebed.partition_list(terms) -%}
        {%- set there = lakebed.stored_partitions(this) -%}
        {%- if there | map('lower') | list != wanted | map('lower') | list -%}
            {%- do exceptions.warn("Lakebed: " ~ this.schema ~ "." ~ this.identifier ~ " is partitioned by (" ~ there | join(', ') ~ "), its model says (" ~ wanted | join(', ') ~ "). New rows go in as the others did until it is made anew: dbt build --full-refresh --select " ~ model.name) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
