{#- What the expect_* tests are made of. A test returns the rows that break it. -#}

{#- Rows for which an expression is false; unknown (NULL) passes. -#}
{% macro rows_breaking(model, expression, row_condition=none) %}
select * from {{ model }}
where not ({{ expression }})
{%- if row_condition %}
    and ({{ row_condition }})
{%- endif %}
{% endmacro %}

{#- Groups (or the whole table) for which an expression of aggregates is false; NULL passes. -#}
{% macro groups_breaking(model, expression, group_by=none, row_condition=none) %}
{%- set groups = [] if not group_by else ([group_by] if group_by is string else group_by) %}
select
    {{ groups | join(', ') ~ ',' if groups }}
    count(*) as rows_in_group
from {{ model }}
{%- if row_condition %}
where {{ row_condition }}
{%- endif %}
{{ 'group by ' ~ groups | join(', ') if groups }}
having not ({{ expression }})
{% endmacro %}

{#- Groups whose aggregate differs between two tables; a group that only one has differs. -#}
{% macro aggregates_differing(model, expression, compare_model, compare_expression, group_by=none, compare_group_by=none, row_condition=none, compare_row_condition=none, tolerance=0, tolerance_percent=none) %}
{%- set groups = [] if not group_by else ([group_by] if group_by is string else group_by) -%}
{%- set compare_groups = groups if not compare_group_by else ([compare_group_by] if compare_group_by is string else compare_group_by) %}
with here as (
    select
        {% for group in groups %}{{ group }} as group_{{ loop.index }}, {% endfor %}
        {{ expression }} as metric_here
    from {{ model }}
    {{ 'where ' ~ row_condition if row_condition }}
    {{ 'group by ' ~ groups | join(', ') if groups }}
),

there as (
    select
        {% for group in compare_groups %}{{ group }} as group_{{ loop.index }}, {% endfor %}
        {{ compare_expression }} as metric_there
    from {{ compare_model }}
    {{ 'where ' ~ compare_row_condition if compare_row_condition }}
    {{ 'group by ' ~ compare_groups | join(', ') if compare_groups }}
)

select
    {% for group in groups %}coalesce(here.group_{{ loop.index }}, there.group_{{ loop.index }}) as group_{{ loop.index }}, {% endfor %}
    here.metric_here,
    there.metric_there
from here
full outer join there
    on {% for group in groups %}here.group_{{ loop.index }} is not distinct from there.group_{{ loop.index }}{{ ' and ' if not loop.last }}{% else %}1 = 1{% endfor %}
where (here.metric_here is null) != (there.metric_there is null)
    or abs(here.metric_here - there.metric_there) >
    {%- if tolerance_percent is not none %} {{ tolerance_percent }} * abs(there.metric_there){% else %} {{ tolerance }}{% endif %}
{% endmacro %}

{#- A condition: expression is within the bounds that are given. -#}
{% macro between(expression, min_value=none, max_value=none, strictly=false) -%}
    {%- if min_value is none and max_value is none -%}
        {{ exceptions.raise_compiler_error("Lakebed: this test needs min_value, max_value or both.") }}
    {%- endif -%}
    {%- set equal = '' if strictly else '=' -%}
    {%- set bounds = [] -%}
    {%- if min_value is not none %}{% do bounds.append(expression ~ ' >' ~ equal ~ ' ' ~ min_value) %}{% endif -%}
    {%- if max_value is not none %}{% do bounds.append(expression ~ ' <' ~ equal ~ ' ' ~ max_value) %}{% endif -%}
    {{- return(bounds | join(' and ')) -}}
{%- endmacro %}

{#- A list of values as SQL literals; unquoted values are taken as SQL. -#}
{% macro literals(values, quote_values=true) -%}
    {%- set found = [] -%}
    {%- for value in values -%}
        {%- if value is none %}{% do found.append('null') -%}
        {%- elif quote_values %}{% do found.append(lakebed.string_literal(value)) -%}
        {%- else %}{% do found.append(value | string) -%}{%- endif -%}
    {%- endfor -%}
    {{- return(found | join(', ')) -}}
{%- endmacro %}

{% macro quoted(columns, quote_columns=false) -%}
    {%- set found = [] -%}
    {%- for column in columns %}{% do found.append(adapter.quote(column) if quote_columns else column) %}{% endfor -%}
    {{- return(found) -}}
{%- endmacro %}

{#- A condition: the rows that ignore_row_if leaves. -#}
{% macro rows_kept(columns, ignore_row_if) -%}
    {%- if ignore_row_if == 'all_values_are_missing' -%}
        {{- return('(' ~ columns | join(' is not null or ') ~ ' is not null)') -}}
    {%- elif ignore_row_if == 'any_value_is_missing' -%}
        {{- return('(' ~ columns | join(' is not null and ') ~ ' is not null)') -}}
    {%- elif ignore_row_if == 'never' -%}
        {{- return('1 = 1') -}}
    {%- endif -%}
    {{ exceptions.raise_compiler_error("Lakebed: ignore_row_if is all_values_are_missing, any_value_is_missing or never, not '" ~ ignore_row_if ~ "'.") }}
{%- endmacro %}

{#- One row for each offence that was found while compiling. -#}
{% macro offences(found) %}
{%- for offence in found or [] %}
select {{ lakebed.string_literal(offence) }} as offence
{{ 'union all' if not loop.last }}
{%- else %}
select 1 as offence where 1 = 0
{%- endfor %}
{% endmacro %}

{% macro transformed(name, transform) -%}
    {{- return(name | upper if transform == 'upper' else (name | lower if transform == 'lower' else name)) -}}
{%- endmacro %}

{% macro column_names(relation, transform) -%}
    {%- set names = [] -%}
    {%- if execute -%}
        {%- for column in adapter.get_columns_in_relation(relation) %}{% do names.append(lakebed.transformed(column.name, transform)) %}{% endfor -%}
    {%- endif -%}
    {{- return(names) -}}
{%- endmacro %}

{#- One name for each type: what engines call differently. -#}
{% macro type_name(type) -%}
    {%- set type = type | upper | replace(' ', '') -%}
    {%- set synonyms = {'VARCHAR': 'STRING', 'CHARACTERVARYING': 'STRING', 'CHARACTERVARYING(256)': 'STRING', 'TEXT': 'STRING', 'INTEGER': 'INT', 'INT4': 'INT', 'INT8': 'BIGINT', 'LONG': 'BIGINT', 'BOOL': 'BOOLEAN', 'FLOAT8': 'DOUBLE', 'NUMERIC': 'DECIMAL'} -%}
    {{- return(synonyms.get(type, type | replace('NUMERIC', 'DECIMAL'))) -}}
{%- endmacro %}

{% macro type_offences(model, column_name, types) -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set wanted = [] -%}
        {%- for type in types %}{% do wanted.append(lakebed.type_name(type)) %}{% endfor -%}
        {%- set columns = adapter.get_columns_in_relation(model) | selectattr('name', 'in', [column_name, column_name | lower, column_name | upper]) | list -%}
        {%- if not columns -%}
            {%- do found.append('no column ' ~ column_name) -%}
        {%- elif lakebed.type_name(columns[0].data_type) not in wanted -%}
            {%- do found.append(column_name ~ ' is ' ~ columns[0].data_type) -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(found) -}}
{%- endmacro %}
