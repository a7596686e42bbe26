{#- Contracts on Delta: open-source Delta cannot make a column NOT NULL once the table is there, which
    is what dbt-spark asks for. One CHECK for all the columns does the same, for later writes too. It
    is given with the table, as the property that Delta keeps a CHECK in, so that the rows are
    checked as they are written; added afterwards it costs a second commit and a scan.
    Iceberg has no CHECK, and cannot make a column NOT NULL either. There the rows that a build writes
    are checked in the statement that writes them: nothing is written when one breaks the contract.
    What somebody else writes with a tool of their own is not. -#}
{% macro spark__tblproperties_clause() %}
    {%- set properties = dict(config.get('tblproperties') or {}) -%}
    {%- set check = lakebed.not_null_check(model.columns) -%}
    {%- if check and config.get('file_format') == 'delta' and config.get('contract').enforced -%}
        {%- do properties.update({'delta.constraints.not_null': check}) -%}
    {%- endif -%}
    {%- if config.get('file_format') == 'iceberg' -%}
        {#- Spark copies files for no merge whose source is not deterministic (computed_once). -#}
        {%- do properties.setdefault('write.merge.mode', 'merge-on-read') -%}
    {%- endif -%}
    {%- do lakebed.add_file_properties(properties) -%}
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

{#- Creation: the rows of a contract, checked. -#}
{% macro spark__get_select_subquery(sql) %}
    {%- set check = lakebed.iceberg_check() -%}
    {{- default__get_select_subquery(sql) }}
    {%- if check %}
    where {{ check }}
    {%- endif -%}
{% endmacro %}

{#- Later runs: the relation that a strategy takes rows from, checked. -#}
{% macro checked_rows_of(source) %}
    {%- set check = lakebed.iceberg_check() -%}
    {{- return('(select * from ' ~ source ~ ' where ' ~ check ~ ')' if check else source) -}}
{% endmacro %}

{#- A Python model's first table is written by its frame: it is looked at afterwards, as on Delta. -#}
{% macro spark__persist_constraints(relation, model) %}
    {%- if config.get('contract').enforced and config.get('file_format') == 'delta' -%}
        {%- do alter_table_add_constraints(relation, model.constraints) -%}
        {%- do alter_column_set_constraints(relation, model.columns) -%}
    {%- elif model.language == 'python' and lakebed.iceberg_check() -%}
        {%- do run_query('select count(*) from ' ~ relation ~ ' where ' ~ lakebed.iceberg_check()) -%}
    {%- endif -%}
{% endmacro %}

{#- A condition that every row meets, or Spark fails: NOT NULL columns, and the model's own checks.
    None where the table guards itself, or nothing is promised. -#}
{% macro iceberg_check() %}
    {%- if config.get('file_format') != 'iceberg' or not config.get('contract').enforced -%}{{- return(none) -}}{%- endif -%}
    {%- set checks = [] -%}
    {%- set not_null = lakebed.not_null_check(model.columns) -%}
    {%- if not_null -%}{%- do checks.append({'name': 'not_null', 'expression': not_null}) -%}{%- endif -%}
    {%- for constraint in model.constraints if constraint.type == 'check' -%}
        {%- do checks.append({'name': constraint.name or 'check', 'expression': constraint.expression}) -%}
    {%- endfor -%}
    {%- set conditions = [] -%}
    {%- for check in checks -%}
        {%- set message = 'CHECK constraint ' ~ check.name ~ ' of ' ~ this ~ ' violated: ' ~ check.expression -%}
        {#- As in a CHECK, unknown is no violation. -#}
        {%- do conditions.append('assert_true(coalesce((' ~ check.expression ~ '), true), ' ~ lakebed.text_literal(message) ~ ') is null') -%}
    {%- endfor -%}
    {{- return(conditions | join(' and ') or none) -}}
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
