{#- Compaction: small files become large ones, and rows that were deleted leave the files. Readers and
    writers go on meanwhile, old versions stay readable until `expire`, and the rows are the same.
    Arguments: relation, or `schema.table`; where, a condition that limits it: to partitions (Delta), or to
    files that may have such rows (Iceberg; DuckLake compacts whole tables, and refuses); target_mb, the size to aim at; alone, true
    says that nothing else writes to the table, which one that has rows inlined in a shared catalogue needs.
    Prints and returns the number of files before and after. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation optimize --args '{relation: gold.fct_baskets}' -#}
{% macro optimize(relation, where=none, target_mb=128, alone=false) %}
    {%- if execute -%}
        {%- if target_mb | int <= 0 -%}
            {{ exceptions.raise_compiler_error("Lakebed: target_mb must be a size in megabytes above 0, not '" ~ target_mb ~ "'.") }}
        {%- endif -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- set before = lakebed.table_health(table).files -%}
        {%- do lakebed.compact(table, where, target_mb | int, alone) -%}
        {%- do lakebed.commit() -%}
        {%- set after = lakebed.table_health(table).files -%}
        {%- do print(table.schema ~ '.' ~ table.identifier ~ ': ' ~ before ~ ' files before, ' ~ after ~ ' after') -%}
        {{- return({'before': before, 'after': after}) -}}
    {%- endif -%}
{% endmacro %}

{#- Compaction that also lays the rows along a Z-order curve, so that a filter on any of the columns
    skips files and row groups. On DuckLake it writes the table anew in one transaction: the change
    feed shows every row as deleted and inserted.
    Arguments: relation, or `schema.table`; by, one to four column names; target_mb and alone as for `optimize`.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation cluster --args '{relation: gold.fct_baskets, by: [store_id, household_id]}' -#}
{% macro cluster(relation, by, target_mb=128, alone=false) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- set columns = [by] if by is string else by -%}
        {%- set known = adapter.get_columns_in_relation(table) | map(attribute='name') | map('lower') | list -%}
        {%- for column in columns if column | lower not in known -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ table.schema ~ "." ~ table.identifier ~ " has no column '" ~ column ~ "' to cluster by.") }}
        {%- endfor -%}
        {%- if not columns -%}
            {{ exceptions.raise_compiler_error("Lakebed: cluster needs at least one column.") }}
        {%- endif -%}
        {%- do lakebed.compact_sorted(table, columns, target_mb | int, alone) -%}
        {%- do lakebed.commit() -%}
        {%- do print(table.schema ~ '.' ~ table.identifier ~ ': clustered by ' ~ columns | join(', ')) -%}
    {%- endif -%}
{% endmacro %}
