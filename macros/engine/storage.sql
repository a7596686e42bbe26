{#- What the storage verbs (macros/storage) need of a table's format: each asks the engine, and DuckLake's
    answers stand here, in storage_compact.sql and in changes_ducklake.sql. On Spark storage_spark.sql asks
    for the table's format: storage_delta.sql, storage_iceberg.sql. -#}

{#- Refuses a table that is not in the format that the verbs know. -#}
{% macro check_format(relation) %}{{- return(adapter.dispatch('check_format', 'lakebed')(relation)) -}}{% endmacro %}

{% macro duckdb__check_format(relation) %}
    {%- if not run_query("select 1 from duckdb_databases() where type = 'ducklake' and database_name = " ~ lakebed.text_literal(relation.database)).rows -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation ~ " is not in a DuckLake; the storage verbs need one.") }}
    {%- endif -%}
{% endmacro %}

{#- The arguments by which DuckLake's functions know a table. -#}
{% macro ducklake_table(relation) -%}
    {{ lakebed.text_literal(relation.database) }}, {{ lakebed.text_literal(relation.identifier) }}, schema => {{ lakebed.text_literal(relation.schema) }}
{%- endmacro %}

{#- A dictionary: table, files, bytes, mean_bytes, files_with_deletes (none where not known), versions. -#}
{% macro table_health(relation) %}{{- return(adapter.dispatch('table_health', 'lakebed')(relation)) -}}{% endmacro %}

{% macro duckdb__table_health(relation) %}
    {%- set row = run_query(
        'select count(*), coalesce(sum(data_file_size_bytes), 0), count(delete_file), (select count(*) from ducklake_snapshots(' ~ lakebed.text_literal(relation.database) ~ ')) from ducklake_list_files(' ~ lakebed.ducklake_table(relation) ~ ')'
    ).rows[0] -%}
    {{- return({'table': relation.schema ~ '.' ~ relation.identifier, 'files': row[0] | int, 'bytes': row[1] | int, 'mean_bytes': (row[1] / [row[0], 1] | max) | int, 'files_with_deletes': row[2] | int, 'versions': row[3] | int}) -}}
{% endmacro %}

{% macro version_sql(relation, version, at) %}{{- return(adapter.dispatch('version_sql', 'lakebed')(relation, version, at)) -}}{% endmacro %}

{% macro duckdb__version_sql(relation, version, at) -%}
    {{ relation }} at ({% if at is none %}version => {{ version | int }}{% else %}timestamp => timestamptz '{{ lakebed.utc_moment(at) }}+00'{% endif %})
{%- endmacro %}

{#- A UTC moment as given, checked. -#}
{% macro utc_moment(at) %}
    {%- set text = at | string | trim | replace('T', ' ') | replace('Z', '') -%}
    {%- if not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?)?', text) -%}
        {{ exceptions.raise_compiler_error("Lakebed: '" ~ at ~ "' is no moment: write YYYY-MM-DD HH:MM:SS, in UTC.") }}
    {%- endif -%}
    {%- if text | length == 10 -%}{%- set text = text ~ ' 00:00:00' -%}{%- endif -%}
    {{- return(text) -}}
{% endmacro %}

{% macro duckdb__newest_version(relation) %}
    {{- return(run_query('select id from ducklake_current_snapshot(' ~ lakebed.text_literal(relation.database) ~ ')').rows[0][0] | int) -}}
{% endmacro %}

{#- A tag is a row of ops.tags; where the format has tags of its own, one of those.
    Returns: the version that has a name, or none. -#}
{% macro version_of_tag(relation, name) %}{{- return(adapter.dispatch('version_of_tag', 'lakebed')(relation, name)) -}}{% endmacro %}

{% macro default__version_of_tag(relation, name) %}
    {%- if not load_relation(lakebed.tags()) -%}{{- return(none) -}}{%- endif -%}
    {%- set found = run_query('select version from ' ~ lakebed.tags() ~ ' where ' ~ lakebed.tag_condition(relation, name)).rows -%}
    {{- return(found[0][0] | int if found else none) -}}
{% endmacro %}

{#- Names a version, the newest by default. Returns: the version that has the name now. -#}
{% macro set_tag(relation, name, version=none) %}{{- return(adapter.dispatch('set_tag', 'lakebed')(relation, name, version)) -}}{% endmacro %}

{% macro default__set_tag(relation, name, version) %}
    {%- set text = dbt.type_string() -%}
    {%- do adapter.create_schema(lakebed.tags().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.tags() ~ ' (table_schema ' ~ text ~ ', table_name ' ~ text ~ ', name ' ~ text ~ ', version bigint, tagged_at timestamp)' ~ lakebed.using_format()) -%}
    {%- set version = lakebed.newest_version(relation) if version is none else version -%}
    {%- do run_query('insert into ' ~ lakebed.tags() ~ ' values (' ~ lakebed.text_literal(relation.schema) ~ ', ' ~ lakebed.text_literal(relation.identifier) ~ ', ' ~ lakebed.text_literal(name) ~ ', ' ~ version ~ ', ' ~ lakebed.as_of() ~ ')') -%}
    {{- return(version) -}}
{% endmacro %}

{% macro remove_tag(relation, name) %}{{- return(adapter.dispatch('remove_tag', 'lakebed')(relation, name)) -}}{% endmacro %}

{% macro default__remove_tag(relation, name) %}
    {%- do run_query('delete from ' ~ lakebed.tags() ~ ' where ' ~ lakebed.tag_condition(relation, name)) -%}
{% endmacro %}

{% macro tag_condition(relation, name) -%}
    table_schema = {{ lakebed.text_literal(relation.schema) }} and table_name = {{ lakebed.text_literal(relation.identifier) }} and name = {{ lakebed.text_literal(name) }}
{%- endmacro %}

{#- Gives a table its rows of `old`, which is what version_sql makes of the rest. -#}
{% macro restore_rows(relation, old, version, at) %}{{- return(adapter.dispatch('restore_rows', 'lakebed')(relation, old, version, at)) -}}{% endmacro %}

{% macro duckdb__restore_rows(relation, old, version, at) %}
    {%- do lakebed.check_same_columns(relation, old) -%}
    {%- do lakebed.ducklake_rewrite(relation, 'select * from ' ~ old) -%}
{% endmacro %}

{% macro check_same_columns(relation, old) %}
    {%- set now = run_query('select column_name, column_type from (describe ' ~ relation ~ ')').rows | map('join', ' ') | list -%}
    {%- set then = run_query('select column_name, column_type from (describe select * from ' ~ old ~ ')').rows | map('join', ' ') | list -%}
    {%- if now != then -%}
        {{ exceptions.raise_compiler_error("Lakebed: the columns of " ~ relation.schema ~ "." ~ relation.identifier ~ " were others then (" ~ then | join(', ') ~ "); it is not restored. Its old rows can be read with table_as_of.") }}
    {%- endif -%}
{% endmacro %}

{#- Only the rows that meet a condition, in one transaction; others stay. -#}
{% macro restore_interval(relation, old, condition) %}{{- return(adapter.dispatch('restore_interval', 'lakebed')(relation, old, condition)) -}}{% endmacro %}

{% macro duckdb__restore_interval(relation, old, condition) %}
    {%- do lakebed.check_same_columns(relation, old) -%}
    {%- do lakebed.ducklake_rewrite(relation, 'select * from ' ~ old ~ ' where ' ~ condition, where=condition) -%}
{% endmacro %}

{% macro expire_tables(days, tables, dry_run) %}{{- return(adapter.dispatch('expire_tables', 'lakebed')(days, tables, dry_run)) -}}{% endmacro %}

{#- Versions of a DuckLake that ceased to be the present one more than some days ago, and have no tag: the
    last one that is older stays, since it is what the lake was on the first of these days. -#}
{% macro expirable_snapshots(days) %}
    {%- set snapshots = ' from ducklake_snapshots(' ~ lakebed.text_literal(lakebed.tags().database) ~ ')' -%}
    {%- set age = "snapshot_time < (" ~ lakebed.as_of() ~ " at time zone 'UTC') - interval '" ~ days ~ " days'" -%}
    {%- set tagged = ' and snapshot_id not in (select version from ' ~ lakebed.tags() ~ ')' if load_relation(lakebed.tags()) else '' -%}
    {%- set old = run_query('select snapshot_id' ~ snapshots ~ ' where snapshot_id < (select max(snapshot_id)' ~ snapshots ~ ' where ' ~ age ~ ')' ~ tagged).columns[0].values() | list -%}
    {{- return(old) -}}
{% endmacro %}

{% macro duckdb__expire_tables(days, tables, dry_run) %}
    {%- if tables -%}
        {{ exceptions.raise_compiler_error("Lakebed: a DuckLake has one history for all its tables: expire takes no relation there.") }}
    {%- endif -%}
    {%- do lakebed.check_promise(days) -%}
    {%- set database = lakebed.text_literal(lakebed.tags().database) -%}
    {%- set old = lakebed.expirable_snapshots(days) -%}
    {%- if old and not dry_run -%}
        {%- do run_query('call ducklake_expire_snapshots(' ~ database ~ ', versions => [' ~ old | join(', ') ~ '])') -%}
    {%- endif -%}
    {%- do adapter.commit() -%}
    {#- A reader may still be in a file that was let go a moment ago. -#}
    {%- set yesterday = ", dry_run => " ~ dry_run | lower ~ ", older_than => (" ~ lakebed.as_of() ~ " at time zone 'UTC') - interval '1 day')" -%}
    {%- set files = run_query('call ducklake_cleanup_old_files(' ~ database ~ yesterday).rows | length -%}
    {%- set files = files + run_query('call ducklake_delete_orphaned_files(' ~ database ~ yesterday).rows | length -%}
    {%- do lakebed.say_expired(old | length, files, dry_run) -%}
{% endmacro %}

