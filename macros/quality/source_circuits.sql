{#- What ops.source_circuits knows of the circuit breakers of sources, and what models' YAML says of them: see
    judge_source.sql. Engines: DuckDB, Spark. -#}

{% macro source_circuits() -%}
    {{- return(lakebed.ops_relation('source_circuits')) -}}
{%- endmacro %}

{#- Makes the table, where a model has a circuit breaker. Run by create_positions. -#}
{% macro create_source_circuits() %}
    {%- if lakebed.judged_sources() -%}
        {%- set text = dbt.type_string() -%}
        {%- do run_query(
            'create table if not exists ' ~ lakebed.source_circuits() ~ ' (source ' ~ text ~ ', state ' ~ text ~ ', from_batch bigint, released_batch bigint'
            ~ ', pooled_rows bigint, pooled_refused bigint, reason ' ~ text ~ ', changed_at timestamp, retry_at timestamp)' ~ lakebed.using_format()
        ) -%}
    {%- endif -%}
{% endmacro %}

{#- The settings of a model's circuit breaker, checked. Arguments: name, a model.
    Returns: {refused, rows, rest}, rest in seconds. -#}
{% macro circuit_spec(name) %}
    {%- set found = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | selectattr('name', 'equalto', name) | list -%}
    {%- set meta = (found[0].config.get('meta') or {}).get('circuit_breaker') if found else none -%}
    {%- set known = ['refused', 'rows', 'rest'] -%}
    {%- if meta is not mapping or meta.keys() | sort != known | sort -%}
        {{ exceptions.raise_compiler_error("Lakebed: the model '" ~ name ~ "' needs meta: {circuit_breaker: {refused: 0.5, rows: 1000, rest: 1 hour}}, these three and no other.") }}
    {%- endif -%}
    {%- if meta.refused is not number or meta.refused is boolean or not 0 < meta.refused < 1 -%}
        {{ exceptions.raise_compiler_error("Lakebed: meta.circuit_breaker.refused of '" ~ name ~ "' is the share of rows above which its source is halted, between 0 and 1, not '" ~ meta.refused ~ "'.") }}
    {%- endif -%}
    {%- if meta.rows is not integer or meta.rows is boolean or meta.rows < 1 -%}
        {{ exceptions.raise_compiler_error("Lakebed: meta.circuit_breaker.rows of '" ~ name ~ "' is how many rows are judged together, 1 or more, not '" ~ meta.rows ~ "'.") }}
    {%- endif -%}
    {{- return({'refused': meta.refused, 'rows': meta.rows, 'rest': lakebed.span_seconds(meta.rest, name, 'circuit_breaker.rest')}) -}}
{% endmacro %}

{#- The sources that have a circuit breaker: {identifier: the model that judges it}. Empty while dbt
    parses, and in its unit tests, which see no graph. -#}
{% macro judged_sources() %}
    {%- set found = {} -%}
    {%- if execute -%}
        {%- for node in graph.get('nodes', {}).values() if node.resource_type == 'model' and (node.config.get('meta') or {}).get('circuit_breaker') -%}
            {%- set name = lakebed.judged_source(node).identifier -%}
            {%- if found.setdefault(name, node.name) != node.name -%}
                {{ exceptions.raise_compiler_error("Lakebed: " ~ found[name] ~ " and " ~ node.name ~ " both have a circuit breaker for " ~ name ~ "; let one of them judge it.") }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- return(found) -}}
{% endmacro %}

{#- A source's circuit. Returns: {open, rested, from_batch, released_batch, pooled_rows, pooled_refused, reason}. -#}
{% macro source_circuit(source) %}
    {%- set rows = run_query(
        "select case when state = 'open' then 1 else 0 end, case when retry_at <= " ~ lakebed.as_of() ~ ' then 1 else 0 end'
        ~ ', from_batch, released_batch, pooled_rows, pooled_refused, reason from ' ~ lakebed.source_circuits()
        ~ ' where source = ' ~ lakebed.text_literal(source)
    ).rows -%}
    {%- if not rows -%}
        {{- return({'open': false, 'rested': false, 'from_batch': none, 'released_batch': 0, 'pooled_rows': 0, 'pooled_refused': 0, 'reason': none}) -}}
    {%- endif -%}
    {%- set row = rows[0] -%}
    {{- return({
        'open': row[0] | int == 1, 'rested': row[1] | int == 1, 'from_batch': row[2] | int if row[2] is not none else none,
        'released_batch': row[3] | int, 'pooled_rows': row[4] | int, 'pooled_refused': row[5] | int, 'reason': row[6],
    }) -}}
{% endmacro %}

{#- From which batch on a source is halted; none: it flows. -#}
{% macro halted_from(source) %}
    {%- if source in lakebed.judged_sources() -%}
        {%- set circuit = lakebed.source_circuit(source) -%}
        {%- if circuit.open -%}{{- return(circuit.from_batch) -}}{%- endif -%}
    {%- endif -%}
    {{- return(none) -}}
{% endmacro %}

{% macro write_circuit(source, state, rest=none, from_batch=none, released_batch=0, pooled_rows=0, pooled_refused=0, reason=none) %}
    {%- set values = {
        'state': lakebed.text_literal(state),
        'from_batch': from_batch if from_batch is not none else 'cast(null as bigint)',
        'released_batch': released_batch,
        'pooled_rows': pooled_rows,
        'pooled_refused': pooled_refused,
        'reason': lakebed.text_literal(reason) if reason is not none else 'cast(null as ' ~ dbt.type_string() ~ ')',
        'changed_at': lakebed.as_of(),
        'retry_at': lakebed.add_dateparts('second', rest, lakebed.as_of()) if rest is not none else 'cast(null as timestamp)',
    } -%}
    {%- set sets = [] -%}
    {%- for name, value in values.items() -%}{%- do sets.append(name ~ ' = ' ~ value) -%}{%- endfor -%}
    {%- do run_query(
        'merge into ' ~ lakebed.source_circuits() ~ ' as circuit using (select ' ~ lakebed.text_literal(source) ~ ' as source) as judged'
        ~ ' on circuit.source = judged.source'
        ~ ' when matched then update set ' ~ sets | join(', ')
        ~ ' when not matched then insert (source, ' ~ values.keys() | join(', ') ~ ') values (judged.source, ' ~ values.values() | join(', ') ~ ')'
    ) -%}
{% endmacro %}
