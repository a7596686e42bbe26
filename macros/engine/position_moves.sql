{#- How positions move: see positions.sql, which says why. Engines: DuckDB, Spark. -#}

{#- Assignments of the pre-hook's merge. -#}
{% macro position_moves() %}{{- return(adapter.dispatch('position_moves', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__position_moves() -%} previous_batch = position.batch, batch = newest.batch {%- endmacro %}
{% macro spark__position_moves() -%} batch = newest.batch {%- endmacro %}

{% macro duckdb__settle_position() %}{% endmacro %}

{% macro spark__settle_position() %}
    {%- if execute and 'advance_position' in model.config['pre-hook'] | string -%}
    update {{ lakebed.positions() }} set previous_batch = batch where model = '{{ model.name }}'
    {%- endif -%}
{% endmacro %}

{#- What new_batches adds where a batch may be read twice: not what the table holds. -#}
{% macro batches_not_held(column) %}{{- return(adapter.dispatch('batches_not_held', 'lakebed')(column)) -}}{% endmacro %}
{% macro duckdb__batches_not_held(column) %}{% endmacro %}

{% macro spark__batches_not_held(column) %}
    {%- if config.get('incremental_strategy') == 'append' %}
    and {{ column }} > (select coalesce(max(_batch_id), 0) from {{ this }})
    {%- endif -%}
{% endmacro %}

{% macro duckdb__fence(after) %}
    {%- if execute and (after or model.language != 'python') -%}
    merge into {{ lakebed.positions() }} as position
    using (select '{{ model.name }}' as model, 'landing' as source) as fence
    on position.model = fence.model and position.source = fence.source
    when matched then update set previous_batch = position.batch, batch = position.batch + 1
    when not matched then insert (model, source, previous_batch, batch)
        values (fence.model, fence.source, 0, 1)
    {%- endif -%}
{% endmacro %}

{% macro spark__fence(after) %}{% endmacro %}
