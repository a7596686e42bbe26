{#- Contracts on Delta: open-source Delta cannot make a column NOT NULL once the table is there, which
    is what dbt-spark asks for. One CHECK for all the columns does the same and is kept: later
    writes are checked as well. Iceberg and Hudi: nothing is enforced by the table; silver's rules and the tests
    are what guards them. -#}
{% macro spark__alter_column_set_constraints(relation, column_dict) %}
    {%- set required = [] -%}
    {%- for name, column in column_dict.items() -%}
        {%- if column.constraints | selectattr('type', 'equalto', 'not_null') | list -%}
            {%- do required.append(adapter.quote(name) ~ ' is not null') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if required -%}
        {% call statement() %}
            alter table {{ relation }} add constraint not_null check ({{ required | join(' and ') }})
        {% endcall %}
    {%- endif -%}
{% endmacro %}
