{#- What the expectations that compare two tables, or two rows, share. -#}

{#- Groups whose aggregates in two tables differ by more than a tolerance. A group of NULL is a
    group, and tables are brought together by a union, so no group can get lost in a join. -#}
{% macro expectation_equal(
    model, expression, compare_model, compare_expression=none, group_by=none, compare_group_by=none,
    row_condition=none, compare_row_condition=none, tolerance=0.0, tolerance_percent=none
) %}
    {%- set groups = lakebed.expectation_list(group_by) -%}
    {%- set others = lakebed.expectation_list(compare_group_by) or groups -%}
    {%- if groups | length != others | length -%}
        {%- do exceptions.raise_compiler_error('group_by and compare_group_by differ in length.') -%}
    {%- endif -%}
    {%- set columns -%}
        {%- for group in groups %}col_{{ loop.index }}, {% endfor -%}
    {%- endset %}
    with a as (
        {{- lakebed.expectation_observed(model, expression, groups, row_condition) -}}
    ),

    b as (
        {{- lakebed.expectation_observed(
            compare_model or model, compare_expression or expression, others, compare_row_condition or row_condition
        ) -}}
    ),

    both_sides as (
        select {{ columns }}observed as expression, null as compare_expression from a
        union all
        select {{ columns }}null as expression, observed as compare_expression from b
    ),

    paired as (
        select
            {{ columns }}
            coalesce(max(expression), 0) as expression,
            coalesce(max(compare_expression), 0) as compare_expression
        from both_sides
        {%- if groups %}
        group by {% for group in groups %}col_{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}
        {%- endif %}
    )

    select
        *,
        abs(expression - compare_expression) as expression_difference
    from paired
    where
        {%- if tolerance_percent %}
        abs(expression - compare_expression) > {{ tolerance_percent }} * abs(expression)
        {%- else %}
        abs(expression - compare_expression) > {{ tolerance }}
        {%- endif %}
{% endmacro %}

{#- Rows that do not follow the row before them in the order asked for. -#}
{% macro expectation_ordered(model, column_name, operator, rise, sort_column, row_condition, group_by, step) %}
    {%- set groups = lakebed.expectation_list(group_by) %}
    with ordered_rows as (
        select
            {%- for group in groups %}
            {{ group }} as col_{{ loop.index }},
            {%- endfor %}
            {{ sort_column or column_name }} as sort_column,
            {{ column_name }} as value_field,
            lag({{ column_name }}) over (
                {%- if groups %}partition by {{ groups | join(', ') }} {% endif -%}
                order by {{ sort_column or column_name }} asc nulls last
            ) as value_field_lag
        from {{ model }}
        where
            {{ column_name }} is not null
            {%- if row_condition %}
            and ({{ row_condition }})
            {%- endif %}
    )

    select * from ordered_rows
    where
        value_field_lag is not null
        and not (
            value_field {{ operator }} value_field_lag
            {%- if step %}
            and {{ rise }} = {{ step }}
            {%- endif %}
        )
{% endmacro %}
