{#- No two values differ by their case alone. -#}
{% test expect_column_values_to_have_consistent_casing(model, column_name, display_inconsistent_columns=false) %}
    select
        lower({{ column_name }}) as lower_case,
        {{ "min(" ~ column_name ~ ") as one_spelling, max(" ~ column_name ~ ") as another_spelling," if display_inconsistent_columns }}
        count(distinct {{ column_name }}) as spellings
    from {{ model }}
    group by lower({{ column_name }})
    having count(distinct {{ column_name }}) > 1
{% endtest %}
