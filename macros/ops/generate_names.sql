{#- Schemas in the lake are the layer names, and a table's name drops the layer
    that its file name carries: bronze_retail__transactions is
    bronze.retail__transactions. Projects that install Lakebed keep dbt's own names:
    dbt only uses these two when Lakebed is the root project. -#}

{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- if custom_alias_name -%}
        {{ custom_alias_name | trim }}
    {%- else -%}
        {%- set ns = namespace(name=node.name) -%}
        {%- for layer in ['bronze_', 'silver_', 'quarantine_', 'ops_', 'snap_'] if node.name.startswith(layer) -%}
            {%- set ns.name = node.name[layer | length:] -%}
        {%- endfor -%}
        {{ ns.name }}
    {%- endif -%}
{%- endmacro %}
