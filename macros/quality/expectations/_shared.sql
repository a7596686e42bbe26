{#- What the expectations share. They are not for use outside this folder.
    A condition that is NULL holds: `not (null)` picks no row. -#}

{#- Names as a list: none is no name, a string is one. -#}
{% macro expectation_list(names) %}
    {{- return([] if not names else ([names] if names is string else names)) -}}
{% endmacro %}

{#- Condition: value lies between bounds of which at least one is given. -#}
{% macro expectation_bounds(value, min_value, max_value, strictly) %}
    {%- if min_value is none and max_value is none -%}
        {%- do exceptions.raise_compiler_error('Give min_value, max_value or both.') -%}
    {%- endif -%}
    {%- set equal = '' if strictly else '=' -%}
    {%- set bounds = [] -%}
    {%- if min_value is not none -%}{%- do bounds.append(value ~ ' >' ~ equal ~ ' ' ~ min_value) -%}{%- endif -%}
    {%- if max_value is not none -%}{%- do bounds.append(value ~ ' <' ~ equal ~ ' ' ~ max_value) -%}{%- endif -%}
    {{- return(bounds | join(' and ')) -}}
{% endmacro %}

{#- Rows of which a condition does not hold. -#}
{% macro expectation_rows(model, holds, row_condition=none) %}
    select * from {{ model }}
    where
        not ({{ holds }})
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
{% endmacro %}

{#- One row for the table, or for each group, with an aggregate as `observed`. -#}
{% macro expectation_observed(model, aggregate, group_by=none, row_condition=none) %}
    {%- set groups = lakebed.expectation_list(group_by) %}
        select
            {%- for group in groups %}
            {{ group }} as col_{{ loop.index }},
            {%- endfor %}
            {{ aggregate }} as observed
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
        {%- if groups %}
        group by {{ groups | join(', ') }}
        {%- endif %}
{% endmacro %}

{#- Groups of whose aggregate, `observed`, a condition does not hold. -#}
{% macro expectation_groups(model, aggregate, holds, group_by=none, row_condition=none) %}
    with observations as (
        {{- lakebed.expectation_observed(model, aggregate, group_by, row_condition) -}}
    )

    select * from observations
    where not ({{ holds }})
{% endmacro %}

{#- Condition, never NULL: value is one of a set. A null in the set stands for NULL. -#}
{% macro expectation_in_set(value, value_set, quote_values) %}
    {%- set literals = [] -%}
    {%- for item in value_set if item is not none -%}
        {%- do literals.append(lakebed.text_literal(item) | trim if quote_values else item) -%}
    {%- endfor -%}
    {%- set conditions = ['1 = 0'] -%}
    {%- if literals -%}{%- do conditions.append('coalesce(' ~ value ~ ' in (' ~ literals | join(', ') ~ '), false)') -%}{%- endif -%}
    {%- if value_set | select('none') | list -%}{%- do conditions.append(value ~ ' is null') -%}{%- endif -%}
    {{- return('(' ~ conditions | join(' or ') ~ ')') -}}
{% endmacro %}

{#- Values of a set that no row has. The table is read once for each value. -#}
{% macro expectation_missing_values(model, column_name, value_set, quote_values, row_condition) %}
    select value_field from (
        {%- for item in value_set %}
        select
            {{ lakebed.text_literal('null' if item is none else item) }} as value_field,
            count(case when {{ lakebed.expectation_in_set(column_name, [item], quote_values) }} then 1 end) as occurrences
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
        {{ 'union all' if not loop.last }}
        {%- endfor %}
    ) as wanted
    where occurrences = 0
{% endmacro %}

{#- Names of a table's columns, changed by a Jinja filter. -#}
{% macro expectation_columns(model, transform) %}
    {%- if not execute -%}{{- return([]) -}}{%- endif -%}
    {{- return(adapter.get_columns_in_relation(model) | map(attribute='name') | map(transform) | list) -}}
{% endmacro %}

{#- One row for each name. -#}
{% macro expectation_names(names, column) %}
    {%- for name in names %}
    select {{ lakebed.text_literal(name) }} as {{ column }}
    {{ 'union all' if not loop.last }}
    {%- else %}
    select '' as {{ column }} from (select 1 as one) as nothing
    where 1 = 0
    {%- endfor %}
{% endmacro %}

{#- Column names, quoted if asked for. -#}
{% macro expectation_quoted(column_list, quote_columns) %}
    {%- if not column_list -%}
        {%- do exceptions.raise_compiler_error('column_list must name columns.') -%}
    {%- endif -%}
    {%- set columns = [] -%}
    {%- for column in lakebed.expectation_list(column_list) -%}
        {%- do columns.append(adapter.quote(column) if quote_columns else column) -%}
    {%- endfor -%}
    {{- return(columns) -}}
{% endmacro %}

{#- Condition: a row has the values that ignore_row_if asks for. -#}
{% macro expectation_not_missing(columns, ignore_row_if) %}
    {%- if ignore_row_if not in ['all_values_are_missing', 'any_value_is_missing'] -%}
        {%- do exceptions.raise_compiler_error(
            'ignore_row_if must be all_values_are_missing or any_value_is_missing, not ' ~ ignore_row_if
        ) -%}
    {%- endif -%}
    {%- set operator = ' is null and ' if ignore_row_if == 'all_values_are_missing' else ' is null or ' -%}
    {{- return('not (' ~ columns | join(operator) ~ ' is null)') -}}
{% endmacro %}
