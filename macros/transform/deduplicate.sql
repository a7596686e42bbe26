{#- One row per key: the first by order_by. Ties in order_by are broken by all the columns, so the
    same rows always give the same result, whatever order they are stored in.
    Arguments:
      relation   a relation, or the name of a CTE;
      keys       a list of columns or SQL expressions (a string is one key);
      order_by   a SQL ordering, or a list of them. NULLs come last unless it says `nulls first`.
                 None: by all the columns;
      where      an optional condition on relation;
      null_keys  'keep_all' (default): a key with a NULL in it is unknown, and two unknown keys are
                 not known to be the same, so every such row is kept. 'group': NULL is a value like
                 any other, and one row is kept for it;
      unique_order  true: you vouch that order_by leaves no two rows of a key equal. Saves breaking
                 ties, about a third of the time.
    Returns: a select of the relation's columns, nothing added. Engines: DuckDB, Spark.
    Example: {{ lakebed.deduplicate(ref('orders'), ['order_id'], 'updated_at desc') }} -#}
{% macro deduplicate(relation, keys, order_by=none, where=none, null_keys='keep_all', unique_order=false) %}
{%- set keys = [keys] if keys is string else keys -%}
{%- if not keys -%}
    {{ exceptions.raise_compiler_error("Lakebed: deduplicate needs at least one key; for equal rows use deduplicate_by_hash.") }}
{%- endif -%}
{%- if null_keys not in ['keep_all', 'group'] -%}
    {{ exceptions.raise_compiler_error("Lakebed: deduplicate takes null_keys 'keep_all' or 'group', not '" ~ null_keys ~ "'.") }}
{%- endif -%}
{%- if unique_order and not order_by -%}
    {{ exceptions.raise_compiler_error("Lakebed: deduplicate with unique_order needs an order_by.") }}
{%- endif -%}
{{ lakebed.first_rows(relation, keys, lakebed.order_terms(order_by), where, null_keys == 'keep_all', unique_order) }}
{%- endmacro %}
