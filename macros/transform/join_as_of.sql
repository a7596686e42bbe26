{#- Joins each row with the newest row of its keys at or before its time: the price, the rate, the
    state that held then.
    Arguments:
      left        a relation, or the name of a CTE: the rows that ask;
      right       another: the values over time. At most one row for each keys and right_time, unless
                  right_order says which of several counts (the first);
      keys        a list of columns that both have (a string is one). A NULL matches nothing;
      left_time   a column of left, right_time one of right: date or timestamp, UTC. A row without
                  a time matches nothing;
      columns     a list of what to take from right: columns or expressions, as 'price' or
                  'price as list_price'. Not the names of left's columns;
      right_until a column of right: the time from which its row holds no more (NULL: it holds
                  still), and then nothing does until the next. Without it a row holds until the next;
      how         'left' (default): every row of left once, with NULLs where nothing matches.
                  'inner': only those that match;
      strict      true: before left_time, not at it. To predict from what was known before;
      right_order a SQL ordering or a list.
    Returns: a select of left's columns and the taken ones. Engines: DuckDB (ASOF join, sorted once),
    Spark (one window over both sides, as there is no such join). For a dimension with few versions a
    key, scd2_join is faster.
    Example: {{ lakebed.join_as_of('payments', ref('rates'), ['currency'], 'paid_at', 'quoted_at', ['rate']) }} -#}
{% macro join_as_of(left, right, keys, left_time, right_time, columns, right_until=none, how='left', strict=false, right_order=none) %}
{%- set keys = [keys] if keys is string else keys -%}
{%- set columns = [columns] if columns is string else columns -%}
{%- if not keys or not columns or how not in ['left', 'inner'] -%}
    {{ exceptions.raise_compiler_error("Lakebed: join_as_of needs keys, columns to take, and how 'left' or 'inner' (not '" ~ how ~ "').") }}
{%- endif -%}
{%- set names = [] -%}
{%- for column in columns -%}
    {%- set name = modules.re.match('(?is)^(?:(\\w+)|.+\\sas\\s+(\\w+))\\s*$', column) -%}
    {%- if not name -%}
        {{ exceptions.raise_compiler_error("Lakebed: join_as_of cannot name '" ~ column ~ "': write for example 'price as list_price'.") }}
    {%- endif -%}
    {%- do names.append(name.group(1) or name.group(2)) -%}
{%- endfor -%}
{%- if right_order is not none -%}
    {%- set right = '(' ~ lakebed.deduplicate(right, keys + [right_time], right_order, null_keys='group') ~ ') as _ordered' -%}
{%- endif -%}
{{ lakebed.joined_as_of(left, right, keys, left_time, right_time, columns, names, right_until, how, strict) }}
{%- endmacro %}
