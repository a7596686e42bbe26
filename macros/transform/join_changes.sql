{#- The join of two tables that change, kept as a table that follows both: what a model with the
    `upsert` strategy is made of. In each build only rows are joined that a change of either side
    touches: the new and changed rows of left, and the rows of left that a new, changed or deleted row of
    right is or was joined with, which the table itself knows. What does not join any more is
    handed on as a delete. Nothing is kept for the join but its result; both sides are looked through,
    and what is joined and written follows what changed.
    Arguments:
      left, right  relations that hold the newest change of each key, deletes too: models with the
                   strategy upsert over debezium_changes, with keys, _position, _op, _is_deleted and
                   _batch_id. However their changes came, the result is the join of what they hold;
      on           columns that both have (a string is one), or {column of left: column of right}. A
                   NULL matches nothing;
      left_keys    the key of left: a list of columns (a string is one);
      right_keys   the key of right. If they are all in `on`, a row of left joins at most one row of
                   right, and the result's key is left_keys; else it is left_keys and right_keys;
      left_columns, right_columns
                   what else to take: columns, as 'price' or 'price as list_price', without a name
                   twice;
      how          'inner' (default), or 'left': a row of left without a match stays, with NULLs.
    Returns: a select of left_keys, right_keys if they are part of the key, the columns, _batch_id (of the
    newer side) and _is_deleted. The model's config:
      materialized='incremental', incremental_strategy='upsert', unique_key=[its key],
      pre_hook="{% raw %}{{ lakebed.advance_position(['left_model', 'right_model']) }}{% endraw %}",
      meta={'upsert': {'version': '_batch_id', 'delete_flag': '_is_deleted', 'delete': 'hard', 'on_equal': 'replace'}}
    Engines: DuckDB, Spark.
    Example: {{ lakebed.join_changes(ref('payments_held'), ref('subscriptions_held'), 'subscription_id', 'payment_id', 'subscription_id', ['subscription_id', 'amount'], ['plan_id']) }} -#}
{% macro join_changes(left, right, on, left_keys, right_keys, left_columns, right_columns, how='inner') %}
{%- set left_keys = [left_keys] if left_keys is string else left_keys -%}
{%- set right_keys = [right_keys] if right_keys is string else right_keys -%}
{%- set on = {on: on} if on is string else on -%}
{%- if on is not mapping -%}
    {%- set pairs = {} -%}
    {%- for column in on -%}{%- do pairs.update({column: column}) -%}{%- endfor -%}
    {%- set on = pairs -%}
{%- endif -%}
{%- if not on or not left_keys or not right_keys or how not in ['inner', 'left'] -%}
    {{ exceptions.raise_compiler_error("Lakebed: join_changes needs columns to join on, the keys of both sides, and how 'inner' or 'left' (not '" ~ how ~ "').") }}
{%- endif -%}
{%- set to_one = right_keys | reject('in', on.values() | list) | list | length == 0 -%}
{%- set keys = left_keys + ([] if to_one else right_keys) -%}
{%- set names = [] -%}
{%- for column in keys + left_columns + right_columns -%}
    {%- do names.append(modules.re.split('(?i)\\s+as\\s+', column)[-1]) -%}
{%- endfor -%}
{%- if names | unique | list | length != names | length -%}
    {{ exceptions.raise_compiler_error("Lakebed: join_changes of " ~ left.identifier ~ " and " ~ right.identifier ~ " would have a column twice: " ~ names | join(', ') ~ ". Name one of them anew, as 'name as plan_name'.") }}
{%- endif -%}
{%- set matching -%}
    {%- for column in on -%}left_row.{{ column }} = right_row.{{ on[column] }}{{ ' and ' if not loop.last }}{%- endfor -%}
{%- endset -%}
{%- set same_left -%}
    {%- for key in left_keys -%}touched.{{ key }} = left_row.{{ key }}{{ ' and ' if not loop.last }}{%- endfor -%}
{%- endset -%}
with left_now as (
    {{ lakebed.current_rows(left) }}
),

right_now as (
    {{ lakebed.current_rows(right) }}
),

{% if is_incremental() -%}
right_changed as (
    select * from {{ right }} where {{ lakebed.changed_rows(right) }}
),

touched as (
    select {{ left_keys | join(', ') }}
    from {{ left }}
    where _op != 't' and {{ lakebed.changed_rows(left) }}
    union
    select {% for key in left_keys %}left_row.{{ key }}{{ ', ' if not loop.last }}{% endfor %}
    from left_now as left_row
    inner join right_changed as right_row on {{ matching }}
    {%- if not to_one %}
    union
    select {% for key in left_keys %}joined.{{ key }}{{ ', ' if not loop.last }}{% endfor %}
    from {{ this }} as joined
    inner join right_changed as right_row
        on {% for key in right_keys %}joined.{{ key }} = right_row.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    {%- endif %}
),

held as (
    select joined.*
    from {{ this }} as joined
    inner join touched on {{ same_left | replace('left_row', 'joined') }}
),

{% endif -%}
pairs as (
    select
        {%- for key in left_keys %}
        left_row.{{ key }},
        {%- endfor %}
        {%- for key in keys[left_keys | length:] %}
        right_row.{{ key }},
        {%- endfor %}
        {%- for column in left_columns %}
        left_row.{{ column }},
        {%- endfor %}
        {%- for column in right_columns %}
        right_row.{{ column }},
        {%- endfor %}
        greatest(left_row._batch_id, coalesce(right_row._batch_id, left_row._batch_id)) as _batch_id
    from left_now as left_row
    {%- if is_incremental() %}
    inner join touched on {{ same_left }}
    {%- endif %}
    {{ how }} join right_now as right_row on {{ matching }}
),

final as (
    select
        {%- for name in names %}
        pairs.{{ name }},
        {%- endfor %}
        {#- Not older than the row it replaces: the batches of both sides are numbered apart. #}
        {% if is_incremental() %}greatest(pairs._batch_id, coalesce(held._batch_id, pairs._batch_id)){% else %}pairs._batch_id{% endif %} as _batch_id,
        false as _is_deleted
    from pairs
    {%- if is_incremental() %}
    left join held on {% for key in keys %}pairs.{{ key }} is not distinct from held.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
    union all
    {{ lakebed.rows_gone('held', 'pairs', keys, names) }}
    {%- endif %}
)

select * from final
{% endmacro %}

{#- Condition: a held row was changed by a batch that the model has not read; all were, by a truncate. -#}
{% macro changed_rows(relation) -%}
    ({{ lakebed.new_batches(relation) }} or (select count(*) from {{ relation }} where _op = 't' and {{ lakebed.new_batches(relation) }}) > 0)
{%- endmacro %}
