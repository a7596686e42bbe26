{#- Contracts on Delta: open-source Delta cannot make a column NOT NULL once the table is there, which
    is what dbt-spark asks for. One CHECK for all the columns does the same, for later writes too. It
    is given with the table, as the property that Delta keeps a CHECK in, so that the rows are
    checked as they are written; added afterwards it costs a second commit and a scan. Iceberg and
    Hudi: nothing is enforced by the table; silver's rules and the tests are what guards them. -#}
{% macro spark__tblproperties_clause() %}
    {%- set properties = dict(config.get('tblproperties') or {}) -%}
    {%- set check = lakebed.not_null_check(model.columns) -%}
    {%- if check and config.get('file_format') == 'delta' and config.get('contract').enforced -%}
        {%- do properties.update({'delta.constraints.not_null': check}) -%}
    {%- endif -%}
    {%- if properties %}
    tblproperties (
        {%- for name, value in properties.items() %}'{{ name }}' = '{{ value }}'{{ ", " if not loop.last }}{% endfor -%}
    )
    {%- endif -%}
{% endmacro %}

{#- A Python model's table is made by its frame, which takes no properties. -#}
{% macro spark__alter_column_set_constraints(relation, column_dict) %}
    {%- set check = lakebed.not_null_check(column_dict) -%}
    {%- if check and model.language == 'python' -%}
        {% call statement() %}
            alter table {{ relation }} add constraint not_null check ({{ check }})
        {% endcall %}
    {%- endif -%}
{% endmacro %}

{#- Condition for the columns of a contract that must have a value; none if there is no such column. -#}
{% macro not_null_check(columns) %}
    {%- set required = [] -%}
    {%- for name, column in columns.items() -%}
        {%- if column.constraints | selectattr('type', 'equalto', 'not_null') | list -%}
            {%- do required.append(adapter.quote(name) ~ ' is not null') -%}
        {%- endif -%}
    {%- endfor -%}
    {{- return(required | join(' and ')) -}}
{% endmacro %}
