{#- A circuit breaker for the quality of a source: when too many of its rows break rules, the source is
    halted, its models keep the last good version, and a probe lets it flow again. For a silver model
    that reads batches with checked_rows or checked_records, which says so in its YAML:
      config:
        pre_hook: ["{{ lakebed.judge_source() }}", "{{ lakebed.advance_position() }}"]
        meta:
          circuit_breaker: {refused: 0.5, rows: 1000, rest: 1 hour}
    Before the model reads its new batches they are judged, in their order: one of at least `rows` rows by
    itself, smaller ones together, also over several builds, until they have so many. Once more than
    the share `refused` of them is refused the circuit opens at that batch: every model that reads the
    source with new_batches goes on without it and all that follow. Bronze keeps receiving.
    The first build after `rest` judges the newest batches, up to `rows` rows: if they are good the
    circuit closes and everything is read, what was refused goes to quarantine; if not, the source
    rests again. resume_source closes it by hand.
    `ops.source_circuits` has a row for each source. DuckDB moves it in the model's transaction.
    Engines: DuckDB, Spark. -#}
{% macro judge_source() %}
{%- if execute -%}
    {%- set spec = lakebed.circuit_spec(model.name) -%}
    {%- set bronze = lakebed.judged_source(model) -%}
    {%- set circuit = lakebed.source_circuit(bronze.identifier) -%}
    {%- if circuit.open -%}
        {%- do lakebed.probe_source(bronze, spec, circuit) -%}
    {%- else -%}
        {%- set read = [lakebed.position_of(bronze), circuit.released_batch] | max -%}
        {%- set pool = namespace(rows=circuit.pooled_rows, refused=circuit.pooled_refused, start=none) -%}
        {%- set bad = [] -%}
        {%- for batch in lakebed.judged_batches(bronze, read) if not bad -%}
            {%- if batch.rows >= spec.rows -%}
                {%- if batch.refused > spec.refused * batch.rows -%}{%- do bad.append(batch) -%}{%- endif -%}
            {%- else -%}
                {%- set pool.rows = pool.rows + batch.rows -%}
                {%- set pool.refused = pool.refused + batch.refused -%}
                {%- set pool.start = pool.start or batch.id -%}
                {%- if pool.rows >= spec.rows -%}
                    {%- if pool.refused > spec.refused * pool.rows -%}
                        {%- do bad.append({'id': pool.start, 'rows': pool.rows, 'refused': pool.refused}) -%}
                    {%- endif -%}
                    {%- set pool.rows = 0 -%}
                    {%- set pool.refused = 0 -%}
                    {%- set pool.start = none -%}
                {%- endif -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if bad -%}
            {%- set reason = bad[0].refused ~ ' of ' ~ bad[0].rows ~ ' rows refused: ' ~ lakebed.reasons_of(bronze, bad[0].id) -%}
            {%- do lakebed.write_circuit(bronze.identifier, 'open', spec.rest, from_batch=bad[0].id, released_batch=circuit.released_batch, reason=reason) -%}
            {%- do log('Lakebed: source ' ~ bronze.identifier ~ ' is halted from batch ' ~ bad[0].id ~ ' on: ' ~ reason ~ '. Its models keep what they have; ops.source_circuits says when it is tried again.', info=true) -%}
        {%- elif (pool.rows, pool.refused) != (circuit.pooled_rows, circuit.pooled_refused) -%}
            {%- do lakebed.write_circuit(bronze.identifier, 'closed', released_batch=circuit.released_batch, pooled_rows=pool.rows, pooled_refused=pool.refused) -%}
        {%- endif -%}
    {%- endif -%}
{%- endif -%}
{% endmacro %}

{#- An open circuit after its rest: the newest batches decide, those since it opened. -#}
{% macro probe_source(bronze, spec, circuit) %}
    {%- set told = 'Lakebed: source ' ~ bronze.identifier ~ ' is halted from batch ' ~ circuit.from_batch ~ ' on (' ~ circuit.reason ~ ')' -%}
    {%- set probe = namespace(rows=0, refused=0, newest=none) -%}
    {%- if circuit.rested -%}
        {%- for batch in lakebed.judged_batches(bronze, circuit.from_batch) | reverse if probe.rows < spec.rows -%}
            {%- set probe.rows = probe.rows + batch.rows -%}
            {%- set probe.refused = probe.refused + batch.refused -%}
            {%- set probe.newest = probe.newest or batch.id -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set shares = probe.refused ~ ' of the newest ' ~ probe.rows ~ ' rows refused' -%}
    {%- if probe.rows < spec.rows -%}
        {%- do log(told ~ '.', info=true) -%}
    {%- elif probe.refused > spec.refused * probe.rows -%}
        {%- do lakebed.write_circuit(bronze.identifier, 'open', spec.rest, from_batch=circuit.from_batch, released_batch=circuit.released_batch, reason=circuit.reason) -%}
        {%- do log(told ~ ', and a probe failed: ' ~ shares ~ '.', info=true) -%}
    {%- else -%}
        {%- do lakebed.write_circuit(bronze.identifier, 'closed', released_batch=probe.newest) -%}
        {%- do log('Lakebed: source ' ~ bronze.identifier ~ ' flows again: ' ~ shares ~ '; batches from ' ~ circuit.from_batch ~ ' on are read.', info=true) -%}
    {%- endif -%}
{% endmacro %}

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

{#- The relation that a model with a circuit breaker judges: its one parent that comes in batches. -#}
{% macro judged_source(node) %}
    {%- set sources = lakebed.batch_sources(node) -%}
    {%- if sources | length != 1 -%}
        {{ exceptions.raise_compiler_error("Lakebed: a model with a circuit breaker reads one bronze model or stream, and " ~ node.name ~ " reads " ~ (sources | map(attribute='name') | join(', ') or 'none') ~ ".") }}
    {%- endif -%}
    {{- return(lakebed.batch_relation(sources[0])) -}}
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

{#- The batches of bronze after one, in their order: [{id, rows, refused}]. -#}
{% macro judged_batches(bronze, after) %}
    {%- set batches = [] -%}
    {%- for row in run_query(
        'select _batch_id, count(*), count(broken_rules) from (' ~ lakebed.judged_rows(bronze, '_batch_id > ' ~ after) ~ ') as checked group by _batch_id order by _batch_id'
    ).rows -%}
        {%- do batches.append({'id': row[0] | int, 'rows': row[1] | int, 'refused': row[2] | int}) -%}
    {%- endfor -%}
    {{- return(batches) -}}
{% endmacro %}

{#- The commonest reasons of a batch and those after it: rules' names and counts, no value of a row. -#}
{% macro reasons_of(bronze, batch) %}
    {%- set reasons = [] -%}
    {%- for row in run_query(
        'select broken_rules, count(*) as refused_rows from (' ~ lakebed.judged_rows(bronze, '_batch_id >= ' ~ batch) ~ ') as checked'
        ~ ' where broken_rules is not null group by broken_rules order by refused_rows desc, broken_rules limit 3'
    ).rows -%}
        {%- do reasons.append(row[0] ~ ' ' ~ row[1]) -%}
    {%- endfor -%}
    {{- return(reasons | join(', ')) -}}
{% endmacro %}

{#- This model's rows, judged by its rules, whatever bronze holds. -#}
{% macro judged_rows(bronze, where) %}
    {%- set columns = adapter.get_columns_in_relation(bronze) | map(attribute='name') | list -%}
    {%- if '_line' in columns -%}
        {{- return(lakebed.checked_rows(bronze, model.name, where)) -}}
    {%- elif '_offset' in columns -%}
        {{- return(lakebed.checked_records(bronze, model.name, where)) -}}
    {%- endif -%}
    {{ exceptions.raise_compiler_error("Lakebed: judge_source() of " ~ model.name ~ " judges lines of files or records of a stream, and " ~ bronze ~ " has neither _line nor _offset.") }}
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
