{#- Checks that nobody has to write: every table, snapshot and seed that a run built is checked, also
    one without a word of YAML, in one scan a table.
      schema        the columns and their types are those of the last run (else: warn)
      completeness  no column that had values has lost them all, none declared not_null has a NULL,
                    and a table that had rows is not empty (else: fail)
      volume        rows within a factor of the median of the last ten runs (else: warn); the
                    factor is var('lakebed_volume_factor', 5)
      freshness     the newest event is recorded; with meta.freshness_hours it may not be older than
                    that (else: fail). The event column is the model's event_time, else
                    meta.event_time, else the first timestamp.
    Results: ops.table_checks (one row a check), ops.table_profiles (one row a table: the baseline).
    A model opts out by `meta: {default_checks: false}`. var('lakebed_default_checks'): `warn`
    (default) prints what is wrong, `error` fails the run, `off`.
    Runs as on-run-end. Engines: DuckDB, Spark. -#}
{% macro default_checks(results) %}
    {%- set mode = var('lakebed_default_checks', 'warn') -%}
    {%- if execute and mode != 'off' and flags.WHICH in ['run', 'build', 'snapshot', 'seed'] -%}
        {%- set tables = lakebed.checkable(results) -%}
        {%- if tables -%}
            {%- do lakebed.create_check_tables() -%}
            {%- if lakebed.checked_already() %}{{ return('') }}{% endif -%}
            {%- set history = lakebed.profile_history() -%}
            {%- set profiles = [] -%}
            {%- set checks = [] -%}
            {%- for node in tables -%}
                {%- set profile = lakebed.profile(node) -%}
                {%- if profile -%}
                    {%- do profiles.append(profile) -%}
                    {%- do checks.extend(lakebed.judge(node, profile, history.get(profile.schema ~ '.' ~ profile.table, []))) -%}
                {%- endif -%}
            {%- endfor -%}
            {%- do lakebed.record_checks(profiles, checks) -%}
            {%- set wrong = checks | rejectattr('status', 'equalto', 'pass') | list -%}
            {%- do log('Default checks: ' ~ profiles | length ~ ' tables, ' ~ checks | length ~ ' checks, ' ~ wrong | length ~ ' to look at', info=true) -%}
            {%- for check in wrong -%}
                {%- do log('  ' ~ check.status ~ ' ' ~ check.schema ~ '.' ~ check.table ~ ' ' ~ check.name ~ ' ' ~ check.column ~ ': ' ~ check.observed ~ ', expected ' ~ check.expected, info=true) -%}
            {%- endfor -%}
            {%- if mode == 'error' and checks | selectattr('status', 'equalto', 'fail') | list -%}
                {{ exceptions.raise_compiler_error("Lakebed: default checks failed, see above; set var lakebed_default_checks to warn to go on all the same.") }}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- The nodes of a run that made a table and did not opt out. -#}
{% macro checkable(results) %}
    {%- set found = [] -%}
    {%- for result in results if result.status | string == 'success' -%}
        {%- set node = result.node -%}
        {%- if node.resource_type | string in ['model', 'snapshot', 'seed']
            and node.config.materialized in ['table', 'incremental', 'snapshot', 'seed']
            and (node.config.meta or {}).get('default_checks', true) -%}
            {%- do found.append(node) -%}
        {%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- The one scan: rows, values of each column, the newest event.
    Arguments: relation; columns, a list of names; event_column, a name or none.
    Returns: a select of one row: row_count, one count a column, newest_event. -#}
{% macro profile_sql(relation, columns, event_column=none) %}
select
    count(*) as row_count,
    {%- for column in columns %}
    count({{ adapter.quote(column) }}) as values_{{ loop.index }},
    {%- endfor %}
    {{ 'cast(max(' ~ adapter.quote(event_column) ~ ') as timestamp)' if event_column else 'cast(null as timestamp)' }} as newest_event
from {{ relation }}
{% endmacro %}

{% macro profile(node) %}
    {%- set relation = adapter.get_relation(node.database, node.schema, node.alias) -%}
    {%- if relation is none %}{{ return(none) }}{% endif -%}
    {%- set columns = adapter.get_columns_in_relation(relation) -%}
    {%- set names = columns | map(attribute='name') | list -%}
    {%- set times = [] -%}
    {%- for column in columns if column.data_type | lower in ['timestamp', 'date', 'timestamp with time zone', 'timestamp_ntz'] -%}
        {%- do times.append(column.name) -%}
    {%- endfor -%}
    {%- set declared = node.config.get('event_time') or (node.config.meta or {}).get('event_time') -%}
    {%- set event_column = declared or (times[0] if times else none) -%}
    {%- set row = run_query(lakebed.profile_sql(relation, names, event_column)).rows[0] -%}
    {%- set nulls = {} -%}
    {%- for name in names %}{% do nulls.update({name: (row[0] | int) - (row[loop.index] | int)}) %}{% endfor -%}
    {%- set types = [] -%}
    {%- for column in columns %}{% do types.append(column.name ~ ' ' ~ column.data_type) %}{% endfor -%}
    {{- return({
        'schema': node.schema, 'table': node.alias, 'row_count': row[0] | int, 'columns': types | join(', '),
        'nulls': nulls, 'event_column': event_column, 'newest_event': row[names | length + 1],
    }) -}}
{% endmacro %}

{#- Compares a profile with those of earlier runs, newest first. Returns: a list of checks. -#}
{% macro judge(node, profile, history) %}
    {%- set checks = [] -%}
    {%- set last = history[0] if history else none -%}
    {%- set same_schema = last is none or last.columns == profile.columns -%}
    {%- do checks.append({'name': 'schema', 'column': '', 'status': 'pass' if same_schema else 'warn', 'observed': profile.columns, 'expected': last.columns if last else 'first run'}) -%}

    {#- Against all runs that are kept, not the last alone: what was wrong yesterday is wrong today. -#}
    {%- set had_rows = history | selectattr('row_count', 'gt', 0) | list -%}
    {%- set emptied = had_rows | length > 0 and profile.row_count == 0 -%}
    {%- do checks.append({'name': 'completeness', 'column': '', 'status': 'fail' if emptied else 'pass', 'observed': profile.row_count ~ ' rows', 'expected': 'some rows' if had_rows else 'first run or none'}) -%}
    {%- for name, nulls in profile.nulls.items() -%}
        {%- set declared = node.columns.get(name) -%}
        {%- set not_null = declared and (declared.constraints or []) | selectattr('type', 'equalto', 'not_null') | list | length > 0 -%}
        {%- set with_values = [] -%}
        {%- for old in had_rows if old.nulls.get(name, old.row_count) < old.row_count %}{% do with_values.append(old) %}{% endfor -%}
        {%- set had_values = with_values | length > 0 -%}
        {%- if not_null and nulls > 0 -%}
            {%- do checks.append({'name': 'completeness', 'column': name, 'status': 'fail', 'observed': nulls ~ ' NULL', 'expected': 'not null'}) -%}
        {%- elif had_values and profile.row_count > 0 and nulls == profile.row_count -%}
            {%- do checks.append({'name': 'completeness', 'column': name, 'status': 'fail', 'observed': 'all NULL', 'expected': 'values, as before'}) -%}
        {%- endif -%}
    {%- endfor -%}

    {%- set counts = history | map(attribute='row_count') | sort -%}
    {%- set median = counts[counts | length // 2] if counts else none -%}
    {%- set factor = var('lakebed_volume_factor', 5) -%}
    {%- set usual = median is none or median == 0 or (profile.row_count * factor >= median and profile.row_count <= median * factor) -%}
    {%- do checks.append({'name': 'volume', 'column': '', 'status': 'pass' if usual else 'warn', 'observed': profile.row_count ~ ' rows', 'expected': 'first run' if median is none else 'about ' ~ median}) -%}

    {%- set hours = (node.config.meta or {}).get('freshness_hours') -%}
    {%- set stale = false -%}
    {%- if hours -%}
        {%- set oldest = modules.datetime.datetime.fromisoformat(lakebed.as_of_text()) - modules.datetime.timedelta(hours=hours) -%}
        {%- set stale = profile.newest_event is none or profile.newest_event < oldest -%}
    {%- endif -%}
    {%- do checks.append({'name': 'freshness', 'column': profile.event_column or '', 'status': 'fail' if stale else 'pass', 'observed': profile.newest_event | string, 'expected': 'within ' ~ hours ~ ' hours' if hours else 'no promise'}) -%}
    {%- for check in checks %}{% do check.update({'schema': profile.schema, 'table': profile.table}) %}{% endfor -%}
    {{- return(checks) -}}
{% endmacro %}
