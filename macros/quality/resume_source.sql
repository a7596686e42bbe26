{#- Lets a source flow again that judge_source has halted, without a probe: the next build reads its
    batches up to the newest one there is now, whatever their quality; later ones are judged.
    Arguments: source, as ops.source_circuits names it. Engines: DuckDB, Spark.
    Example: dbt run-operation resume_source --args '{source: web__clicks}' -#}
{% macro resume_source(source) %}
    {%- set judge = lakebed.judged_sources().get(source) -%}
    {%- if not judge -%}
        {{ exceptions.raise_compiler_error("Lakebed: no model has a circuit breaker for '" ~ source ~ "'; there are: " ~ (lakebed.judged_sources() | join(', ') or 'none') ~ ".") }}
    {%- endif -%}
    {%- set circuit = lakebed.source_circuit(source) -%}
    {%- if not circuit.open -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ source ~ " is not halted.") }}
    {%- endif -%}
    {%- set node = graph.nodes.values() | selectattr('name', 'equalto', judge) | first -%}
    {%- set bronze = lakebed.judged_source(node) -%}
    {%- set newest = run_query('select max(_batch_id) from ' ~ bronze).rows[0][0] | int -%}
    {%- do lakebed.write_circuit(source, 'closed', released_batch=newest) -%}
    {%- do lakebed.commit() -%}
    {%- do log('Lakebed: ' ~ source ~ ' is no longer halted; the next build reads batches ' ~ circuit.from_batch ~ ' to ' ~ newest ~ '.', info=true) -%}
{% endmacro %}
