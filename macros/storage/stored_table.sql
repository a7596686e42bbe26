{#- A table of the lake, for the storage verbs: they take a relation, or `schema.table` from a command
    line. Returns: a relation that is there; a name that is not there is an error, before anything
    is touched. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). -#}
{% macro stored_table(name) %}
    {%- set relation = name -%}
    {%- if name is string -%}
        {%- set parts = name.split('.') -%}
        {%- if parts | length != 2 -%}
            {{ exceptions.raise_compiler_error("Lakebed: '" ~ name ~ "' does not name a table: write schema.table, e.g. gold.fct_baskets.") }}
        {%- endif -%}
        {%- set relation = api.Relation.create(database=target.get('database'), schema=parts[0], identifier=parts[1]) -%}
    {%- endif -%}
    {%- set found = load_relation(relation) -%}
    {%- if not found -%}
        {{ exceptions.raise_compiler_error("Lakebed: there is no table " ~ relation.schema ~ "." ~ relation.identifier ~ " in the lake.") }}
    {%- elif found.is_view -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " is a view, and has no files of its own.") }}
    {%- endif -%}
    {%- do lakebed.check_format(found) -%}
    {{- return(found) -}}
{% endmacro %}

{#- All tables of the project and its packages that are in the lake. -#}
{% macro stored_tables() %}
    {%- set found = [] -%}
    {%- for node in graph.nodes.values() | sort(attribute='unique_id') if node.resource_type in ['model', 'snapshot', 'seed'] -%}
        {%- set relation = load_relation(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
        {%- if relation and not relation.is_view -%}{%- do found.append(relation) -%}{%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}
