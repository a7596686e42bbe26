{#- How positions move: see positions.sql, which says why. Engines: DuckDB, Spark. -#}

{#- Assignments of the pre-hook's merge. -#}
{% macro position_moves() %}{{- return(adapter.dispatch('position_moves', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__position_moves() -%} previous_batch = position.batch, batch = newest.batch, build = newest.build {%- endmacro %}
{% macro spark__position_moves() -%} batch = newest.batch, build = newest.build {%- endmacro %}

{% macro duckdb__settle_positions(results) %}{% endmacro %}

{% macro spark__settle_positions(results) %}
    {%- set read = [] -%}
    {%- for result in results if result.status == 'success' and 'advance_position' in result.node.config.pre_hook | string -%}
        {%- do read.append("'" ~ result.node.name ~ "'") -%}
    {%- endfor -%}
    {%- if read %}
    update {{ lakebed.positions() }} set previous_batch = batch
    where model in ({{ read | join(', ') }}) and build = '{{ invocation_id }}'
    {%- endif -%}
{% endmacro %}

{% macro duckdb__fence(after) %}
    {%- if execute and (after or model.language != 'python') -%}
    merge into {{ lakebed.positions() }} as position
    using (select '{{ model.name }}' as model, 'landing' as source) as fence
    on position.model = fence.model and position.source = fence.source
    when matched then update
        set previous_batch = position.batch, batch = position.batch + 1, build = '{{ invocation_id }}'
    when not matched then insert (model, source, previous_batch, batch, build)
        values (fence.model, fence.source, 0, 1, '{{ invocation_id }}')
    {%- endif -%}
{% endmacro %}

{% macro spark__fence(after) %}{% endmacro %}
