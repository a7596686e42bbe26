{#- Generic test: no two rows share the key, and no part of the key is NULL. The lake has no keys
    of its own, so this test is the key.
    Arguments: columns, a list of names. -#}
{% test unique_key(model, columns) %}
    select
        {{ columns | join(',\n        ') }},
        count(*) as occurrences
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1 or {% for column in columns %}{{ column }} is null{{ " or " if not loop.last }}{% endfor %}
{% endtest %}
