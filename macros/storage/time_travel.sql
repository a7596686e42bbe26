{#- A table as it was. Arguments: relation; one of version, a number; at, a UTC moment
    YYYY-MM-DD HH:MM:SS; tag, a name given with `tag`.
    Returns: what stands in a FROM clause. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: select * from {{ lakebed.table_as_of(ref('fct_baskets'), tag='2017 closed') }} -#}
{% macro table_as_of(relation, version=none, at=none, tag=none) -%}
    {%- if [version, at, tag] | reject('none') | list | length != 1 -%}
        {{ exceptions.raise_compiler_error("Lakebed: table_as_of needs one of version, at and tag.") }}
    {%- endif -%}
    {%- if tag is not none -%}{%- set version = lakebed.tagged_version(relation, tag) if execute else 0 -%}{%- endif -%}
    {{- lakebed.version_sql(relation, version, at) -}}
{%- endmacro %}

{#- The rows that changed after one version, up to and with another.
    Arguments: relation; from_version and to_version, numbers (to_version: the newest by default).
    Returns: a select of _change_type (insert, delete, update_preimage, update_postimage),
    _change_version, _change_order (a number that grows from version to version) and the table's
    columns. On Delta the table needs `tblproperties: {delta.enableChangeDataFeed: 'true'}` since before
    from_version; on Iceberg an update is known by the `unique_key` of the table's model, and is a delete
    and an insert without one.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: {{ lakebed.changes_between(ref('dim_products'), 41, 57) }} -#}
{% macro changes_between(relation, from_version, to_version=none) -%}
    {%- if execute and to_version is none -%}{%- set to_version = lakebed.newest_version(relation) -%}{%- endif -%}
    {{- lakebed.changes_sql(relation, from_version | int, to_version | int) -}}
{%- endmacro %}

{#- The newest version of a table. On DuckLake a version is of the whole lake; on Iceberg it is the id of a
    snapshot. Returns: a number. -#}
{% macro newest_version(relation) %}{{- return(adapter.dispatch('newest_version', 'lakebed')(relation)) -}}{% endmacro %}

{% macro tags() -%}
    {{- return(lakebed.ops_relation('tags')) -}}
{%- endmacro %}

{#- Names the present version of a table; `expire` keeps what has a name.
    Arguments: relation, or `schema.table`; name, used once for a table. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation tag --args '{relation: gold.fct_baskets, name: 2017 closed}' -#}
{% macro tag(relation, name) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- if lakebed.tagged_version(table, name, missing=none) is not none -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ table.schema ~ "." ~ table.identifier ~ " has a tag '" ~ name ~ "' already; a tag does not move (untag it first).") }}
        {%- endif -%}
        {%- set version = lakebed.set_tag(table, name) -%}
        {%- do lakebed.commit() -%}
        {%- do print(table.schema ~ '.' ~ table.identifier ~ ": version " ~ version ~ " is '" ~ name ~ "'") -%}
    {%- endif -%}
{% endmacro %}

{#- Takes a name away; `expire` may then take the version.
    Example: dbt run-operation untag --args '{relation: gold.fct_baskets, name: 2017 closed}' -#}
{% macro untag(relation, name) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- do lakebed.tagged_version(table, name) -%}
        {%- do lakebed.remove_tag(table, name) -%}
        {%- do lakebed.commit() -%}
    {%- endif -%}
{% endmacro %}

{% macro tagged_version(relation, name, missing='error') %}
    {%- set found = lakebed.version_of_tag(relation, name) -%}
    {%- if found is none and missing == 'error' -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " has no tag '" ~ name ~ "'.") }}
    {%- endif -%}
    {{- return(missing if found is none else found) -}}
{% endmacro %}

{#- Gives a table the rows of an old version, as a new version: nothing is lost, and it can be taken back
    the same way. On DuckLake and Iceberg the columns must be the same then and now.
    Arguments: relation, or `schema.table`; one of version, at and tag, as for table_as_of.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation restore --args '{relation: gold.fct_baskets, tag: 2017 closed}' -#}
{% macro restore(relation, version=none, at=none, tag=none) %}
    {%- if execute -%}
        {%- set table = lakebed.stored_table(relation) -%}
        {%- set old = lakebed.table_as_of(table, version, at, tag) -%}
        {%- set rows = run_query('select count(*) from ' ~ old).rows[0][0] -%}
        {%- if tag is not none -%}{%- set version = lakebed.tagged_version(table, tag) -%}{%- endif -%}
        {%- do lakebed.restore_rows(table, old, version, at) -%}
        {%- do lakebed.commit() -%}
        {%- do print(table.schema ~ '.' ~ table.identifier ~ ': ' ~ rows ~ ' rows restored') -%}
    {%- endif -%}
{% endmacro %}
