{#- Where default_checks keeps what it found. -#}

{% macro ops_relation(identifier) -%}
    {{- return(api.Relation.create(database=target.get('database'), schema=var('lakebed_ops_schema', 'ops'), identifier=identifier)) -}}
{%- endmacro %}

{% macro create_check_tables() %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.ops_relation('').without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.ops_relation('table_profiles') ~ ' (invocation_id ' ~ text ~ ', checked_at timestamp, table_schema ' ~ text ~ ', table_name ' ~ text ~ ', row_count bigint, columns ' ~ text ~ ', null_counts ' ~ text ~ ', event_column ' ~ text ~ ', newest_event timestamp)' ~ lakebed.using_format()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.ops_relation('table_checks') ~ ' (invocation_id ' ~ text ~ ', checked_at timestamp, table_schema ' ~ text ~ ', table_name ' ~ text ~ ', check_name ' ~ text ~ ', column_name ' ~ text ~ ', status ' ~ text ~ ', observed ' ~ text ~ ', expected ' ~ text ~ ')' ~ lakebed.using_format()) -%}
{% endmacro %}

{#- Whether this run has been checked: two hooks (a package's and the project's) check it once. -#}
{% macro checked_already() %}
    {%- set rows = run_query('select count(*) from ' ~ lakebed.ops_relation('table_profiles') ~ " where invocation_id = '" ~ invocation_id ~ "'").rows -%}
    {{- return(rows[0][0] | int > 0) -}}
{% endmacro %}

{#- The last ten profiles of each table, newest first: {schema.table: [{row_count, columns, nulls}]}. -#}
{% macro profile_history() %}
    {%- set rows = run_query(
        'select table_schema, table_name, row_count, columns, null_counts from ('
        ~ 'select *, row_number() over (partition by table_schema, table_name order by checked_at desc, invocation_id desc) as age from '
        ~ lakebed.ops_relation('table_profiles')
        ~ ') as profiles where age <= 10 order by table_schema, table_name, age'
    ).rows -%}
    {%- set history = {} -%}
    {%- for row in rows -%}
        {%- do history.setdefault(row[0] ~ '.' ~ row[1], []).append({'row_count': row[2] | int, 'columns': row[3], 'nulls': fromjson(row[4])}) -%}
    {%- endfor -%}
    {{- return(history) -}}
{% endmacro %}

{% macro record_checks(profiles, checks) %}
    {%- set stamp = "'" ~ invocation_id ~ "', " ~ lakebed.as_of() -%}
    {%- set rows = [] -%}
    {%- for profile in profiles -%}
        {%- do rows.append('(' ~ [
            stamp, lakebed.text_literal(profile.schema), lakebed.text_literal(profile.table), profile.row_count,
            lakebed.text_literal(profile.columns), lakebed.text_literal(tojson(profile.nulls)),
            lakebed.text_literal(profile.event_column) if profile.event_column else 'null',
            "cast('" ~ profile.newest_event ~ "' as timestamp)" if profile.newest_event else 'null',
        ] | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- if rows %}{% do run_query('insert into ' ~ lakebed.ops_relation('table_profiles') ~ ' values ' ~ rows | join(', ')) %}{% endif -%}
    {%- set rows = [] -%}
    {%- for check in checks -%}
        {%- do rows.append('(' ~ [
            stamp, lakebed.text_literal(check.schema), lakebed.text_literal(check.table),
            lakebed.text_literal(check.name), lakebed.text_literal(check.column), lakebed.text_literal(check.status),
            lakebed.text_literal(check.observed), lakebed.text_literal(check.expected),
        ] | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- if rows %}{% do run_query('insert into ' ~ lakebed.ops_relation('table_checks') ~ ' values ' ~ rows | join(', ')) %}{% endif -%}
    {%- do lakebed.commit() -%}
{% endmacro %}
