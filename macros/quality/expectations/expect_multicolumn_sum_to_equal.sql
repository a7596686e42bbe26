{#- The sum over all rows (of each group) of several columns. -#}
{% test expect_multicolumn_sum_to_equal(model, column_list, sum_total, group_by=none, row_condition=none) %}
    {%- set sums = [] -%}
    {%- for column in column_list %}{% do sums.append('coalesce(sum(' ~ column ~ '), 0)') %}{% endfor %}
    {{ lakebed.groups_breaking(model, sums | join(' + ') ~ ' = ' ~ sum_total, group_by, row_condition) }}
{% endtest %}
