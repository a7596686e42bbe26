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

{#- The relation that a model with a circuit breaker judges: its one parent that comes in batches. -#}
{% macro judged_source(node) %}
    {%- set sources = lakebed.batch_sources(node) -%}
    {%- if sources | length != 1 -%}
        {{ exceptions.raise_compiler_error("Lakebed: a model with a circuit breaker reads one bronze model or stream, and " ~ node.name ~ " reads " ~ (sources | map(attribute='name') | join(', ') or 'none') ~ ".") }}
    {%- endif -%}
    {{- return(lakebed.batch_relation(sources[0])) -}}
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
