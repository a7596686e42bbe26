{#- Generic test: every pair of two columns is one of a set. A pair with NULL passes if its other
    half fits a pair; a null in the set stands for NULL. Arguments: column_A, column_B,
    value_pairs_set, row_condition (see _expectations.yml). Returns: what breaks it, one row
    each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_pair_values_to_be_in_set: {arguments: {column_A: a, column_B: b, value_pairs_set: [[0, 1], [1, 0]]}} -#}
{% test expect_column_pair_values_to_be_in_set(model, column_A, column_B, value_pairs_set, row_condition=none) %}
    {%- set pairs = [] -%}
    {%- for pair in value_pairs_set -%}
        {%- if pair | length != 2 -%}
            {%- do exceptions.raise_compiler_error('value_pairs_set must hold pairs, not ' ~ pair) -%}
        {%- endif -%}
        {%- set left = column_A ~ (' is null' if pair[0] is none else ' = ' ~ pair[0]) -%}
        {%- set right = column_B ~ (' is null' if pair[1] is none else ' = ' ~ pair[1]) -%}
        {%- do pairs.append('(' ~ left ~ ' and ' ~ right ~ ')') -%}
    {%- endfor -%}
    {{ lakebed.expectation_rows(model, pairs | join(' or '), row_condition) }}
{% endtest %}
