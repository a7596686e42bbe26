{#- Each pair of values is one of the pairs, given as SQL literals. -#}
{% test expect_column_pair_values_to_be_in_set(model, column_A, column_B, value_pairs_set, row_condition=none) %}
    {%- set pairs = [] -%}
    {%- for pair in value_pairs_set %}{% do pairs.append('(' ~ column_A ~ ' = ' ~ pair[0] ~ ' and ' ~ column_B ~ ' = ' ~ pair[1] ~ ')') %}{% endfor %}
    {{ lakebed.rows_breaking(model, pairs | join(' or '), row_condition) }}
{% endtest %}
