{#- What `lakebed tier` works from: the variable `tiers`, and each model with `meta: {tiering: {column: ...}}`
    or `meta: {tiering: false}`. Prints one line of JSON.
    Engines: DuckDB (DuckLake), Spark (the rules of its object store). Example: dbt run-operation tiering_facts -#}
{% macro tiering_facts() %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for node in graph.nodes.values() | sort(attribute='unique_id') if node.resource_type in ['model', 'snapshot', 'seed'] and node.config.get('meta', {}).get('tiering') is not none -%}
            {%- do found.append({'table': node.schema ~ '.' ~ node.alias, 'tiering': node.config.get('meta').tiering}) -%}
        {%- endfor -%}
        {%- do print('LAKEBED ' ~ tojson({'tables': found, 'tiers': var('tiers'), 'as_of': lakebed.as_of_text()})) -%}
    {%- endif -%}
{% endmacro %}
