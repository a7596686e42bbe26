{#- What `lakebed maintain` plans from: what is measured of each table, the settings that hold for it
    (var('maintain_defaults'), var('maintain'), the model's `meta: {maintain: ...}`) and when it was
    last looked after. Prints one line of JSON. Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation maintenance_facts -#}
{% macro maintenance_facts() %}
    {%- if execute -%}
        {%- set defaults, own = lakebed.maintenance_settings() -%}
        {%- set models = {} -%}
        {%- for node in graph.nodes.values() if node.resource_type in ['model', 'snapshot', 'seed'] -%}
            {%- set meta = node.config.get('meta', {}).get('maintain') -%}
            {%- if meta is not none -%}{%- do models.update({node.schema ~ '.' ~ node.alias: meta}) -%}{%- endif -%}
        {%- endfor -%}
        {%- set promise = lakebed.time_travel_promise() -%}
        {%- set found = {
            'defaults': defaults, 'own': own, 'models': models,
            'keep_days': promise[0], 'as_of': lakebed.as_of_text(),
            'history': lakebed.last_maintenance(),
        } -%}
        {%- do found.update(lakebed.measured_tables(promise[0])) -%}
        {%- do print('LAKEBED ' ~ tojson(found)) -%}
    {%- endif -%}
{% endmacro %}

{#- Settings by layer: Lakebed's, and the project's own. -#}
{% macro maintenance_settings() %}
    {{- return([var('maintain_defaults', {}), var('maintain', {})]) -}}
{% endmacro %}

{#- The log of maintenance: append-only. -#}
{% macro maintenance() -%}
    {{- return(lakebed.ops_relation('maintenance')) -}}
{%- endmacro %}

{#- The last time of each action on each table. Returns: a list of dictionaries. -#}
{% macro last_maintenance() %}
    {%- set found = [] -%}
    {%- if load_relation(lakebed.maintenance()) -%}
        {%- for row in run_query("select table_schema, table_name, action, max(version), max(files_after), " ~ dbt.cast('max(recorded_at)', dbt.type_string()) ~ " from (select *, row_number() over (partition by table_schema, table_name, action order by recorded_at desc, version desc) as _place from " ~ lakebed.maintenance() ~ " where state = 'done') as m where _place = 1 group by 1, 2, 3").rows -%}
            {%- do found.append({'table': row[0] ~ '.' ~ row[1], 'action': row[2], 'version': row[3] | int, 'files': row[4] | int, 'at': row[5]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{- return(found) -}}
{% endmacro %}

{#- Does actions of a plan, in order, and records each. Prints a line of JSON before and after each, so
    that whoever started it sees how far it is. No action is begun after `stop_at`.
    Arguments: run_id, text; actions, a list of {action, table, by, target_mb, reason}; keep_days, for
    expire; stop_at, seconds since 1970 (0: never). Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). -#}
{% macro maintain_tables(run_id, actions, keep_days, stop_at=0) %}
    {%- if execute -%}
        {%- do lakebed.create_maintenance() -%}
        {%- set going = {'on': true} -%}
        {%- for action in actions if going.on -%}
            {#- A budget is about the machine's time, not about the data's: no model sees it. -#}
            {%- if stop_at and modules.datetime.datetime.now(modules.pytz.utc).timestamp() >= stop_at -%}
                {%- do print('LAKEBED ' ~ tojson({'state': 'out of time', 'at': action.at})) -%}
                {%- do going.update(on=false) -%}
            {%- else -%}
            {%- do print('LAKEBED ' ~ tojson({'state': 'started', 'at': action.at})) -%}
            {%- set whole = action.table == '*' -%}
            {%- set table = none if whole else lakebed.stored_table(action.table) -%}
            {%- set before = {'files': 0, 'bytes': 0} if whole else lakebed.table_health(table) -%}
            {%- if action.action == 'optimize' -%}
                {%- do lakebed.optimize(table, target_mb=action.target_mb) -%}
            {%- elif action.action == 'cluster' -%}
                {%- do lakebed.cluster(table, action.by, target_mb=action.target_mb) -%}
            {%- elif action.action == 'expire' -%}
                {%- do lakebed.expire(keep_days, table) -%}
            {%- endif -%}
            {%- set after = {'files': 0, 'bytes': 0} if whole else lakebed.table_health(table) -%}
            {%- do lakebed.record_maintenance(run_id, action, 'done', before, after) -%}
            {%- do print('LAKEBED ' ~ tojson({'state': 'done', 'at': action.at, 'files_before': before.files, 'files_after': after.files, 'bytes_before': before.bytes, 'bytes_after': after.bytes})) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{% macro create_maintenance() %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.maintenance().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.maintenance() ~ ' (run_id ' ~ text ~ ', table_schema ' ~ text ~ ', table_name ' ~ text ~ ', action ' ~ text ~ ', state ' ~ text ~ ', reason ' ~ text ~ ', files_before bigint, files_after bigint, bytes_before bigint, bytes_after bigint, version bigint, recorded_at timestamp)' ~ lakebed.using_format()) -%}
    {%- do lakebed.commit() -%}
{% endmacro %}

{#- Appends to the log. Arguments: state, `done`, `gave way` (writers were quicker) or `failed`. -#}
{% macro record_maintenance(run_id, action, state, before=none, after=none) %}
    {%- set parts = ['', '*'] if action.table == '*' else action.table.split('.') -%}
    {%- set relation = lakebed.maintenance() if action.table == '*' else api.Relation.create(database=target.get('database'), schema=parts[0], identifier=parts[1]) -%}
    {%- set texts = [] -%}
    {%- for value in [run_id, parts[0], parts[1], action.action, state, action.reason] -%}{%- do texts.append(lakebed.text_literal(value | string)) -%}{%- endfor -%}
    {%- set before, after = before or {'files': 0, 'bytes': 0}, after or {'files': 0, 'bytes': 0} -%}
    {%- do run_query('insert into ' ~ lakebed.maintenance() ~ ' values (' ~ texts | join(', ') ~ ', ' ~ before.files ~ ', ' ~ after.files ~ ', ' ~ before.bytes ~ ', ' ~ after.bytes ~ ', ' ~ lakebed.newest_version(relation) ~ ', ' ~ lakebed.as_of() ~ ')') -%}
    {%- do lakebed.commit() -%}
{% endmacro %}
