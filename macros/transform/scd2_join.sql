{#- The condition that joins a row with the version of a dimension that held at its time, [valid_from,
    valid_to), valid_to NULL for the current one. At most one version matches if the test
    scd2_intervals holds for the dimension.
    Arguments: left and dimension, aliases of both sides of the join; keys, a list of columns that
    both have (a string is one); time, a column of left, date or timestamp; valid_from and valid_to,
    columns of dimension.
    Returns: a SQL condition, a hash join on both engines: with `or valid_to is null` DuckDB would
    compare all rows with all. Engines: DuckDB, Spark. With many versions a key, see join_as_of.
    Example: left join customers on {{ lakebed.scd2_join('orders', 'customers', ['customer_id'], 'ordered_at') }} -#}
{% macro scd2_join(left, dimension, keys, time, valid_from='valid_from', valid_to='valid_to') -%}
{%- for key in ([keys] if keys is string else keys) -%}
{{ left }}.{{ key }} = {{ dimension }}.{{ key }} and {% endfor -%}
{{ left }}.{{ time }} >= {{ dimension }}.{{ valid_from }}
and {{ lakebed.before_end(left ~ '.' ~ time, dimension ~ '.' ~ valid_to) }}
{%- endmacro %}
