{#- What the storage verbs (macros/storage) need of a table's format: each asks the engine, and DuckLake's
    answers stand here. On Spark storage_spark.sql asks for the table's format: storage_delta.sql,
    storage_iceberg.sql. -#}

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

{% macro compact(relation, where, target_mb, alone=false) %}{{- return(adapter.dispatch('compact', 'lakebed')(relation, where, target_mb, alone)) -}}{% endmacro %}

{#- In a catalogue that several processes share, a small change of rows in files is kept in the catalogue
    itself ('inlined'), and DuckLake 1.5.5 does not see it when it compacts the same table at that moment:
    rows come back or are lost (docs/decisions/0010). So there a table that
    has inlined rows is compacted only when nobody else writes. -#}
{% macro check_inlined(relation, alone) %}
    {%- set database = lakebed.text_literal(relation.database) -%}
    {%- if run_query('select 1 from ducklake_settings(' ~ database ~ ") where catalog_type != 'duckdb'").rows -%}
        {%- if alone -%}
            {#- For programs whose profile does not say it; only now, since processes that run keep theirs. -#}
            {%- do run_query('call ducklake_set_option(' ~ database ~ ", 'data_inlining_row_limit', '0')") -%}
            {%- do adapter.commit() -%}
        {%- elif lakebed.ducklake_inlined(relation) -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " has rows or deletions inlined in the catalogue, which is safe to compact only while nothing else writes: stop the writers, and optimize it once with `alone: true`. Nothing was compacted.") }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- The catalogue's tables of inlined rows and, where others write at the same time, of inlined deletions. -#}
{% macro ducklake_inlined_tables(database, table='[0-9]+') %}
    {%- set metadata = adapter.quote('__ducklake_metadata_' ~ database) -%}
    {%- set names = ['select table_name from ' ~ metadata ~ '.ducklake_inlined_data_tables'] -%}
    {%- if run_query('select 1 from ducklake_settings(' ~ lakebed.text_literal(database) ~ ") where catalog_type != 'duckdb'").rows -%}
        {%- do names.append('select table_name from ' ~ metadata ~ ".information_schema.tables where table_name like 'ducklake_inlined_delete_%'") -%}
    {%- endif -%}
    {{- return(run_query("select table_name from (" ~ names | join(' union all ') ~ ") where regexp_matches(table_name, '^ducklake_inlined_(data_" ~ table ~ "_[0-9]+|delete_" ~ table ~ ")$')").columns[0].values()) -}}
{% endmacro %}

{#- Whether a table has rows or deletions in the catalogue that are in no file. -#}
{% macro ducklake_inlined(relation) %}
    {%- set metadata = '__ducklake_metadata_' ~ relation.database -%}
    {%- set table = run_query(
        'select tables.table_id from ' ~ adapter.quote(metadata) ~ '.ducklake_table as tables'
        ~ ' inner join ' ~ adapter.quote(metadata) ~ '.ducklake_schema as schemas on tables.schema_id = schemas.schema_id and schemas.end_snapshot is null'
        ~ ' where tables.end_snapshot is null and schemas.schema_name = ' ~ lakebed.text_literal(relation.schema) ~ ' and tables.table_name = ' ~ lakebed.text_literal(relation.identifier)
    ).rows[0][0] -%}
    {%- set names = lakebed.ducklake_inlined_tables(relation.database, table) -%}
    {%- for name in names -%}
        {%- if run_query('select 1 from ' ~ adapter.quote(metadata) ~ '.' ~ adapter.quote(name) ~ ' limit 1').rows -%}{{- return(true) -}}{%- endif -%}
    {%- endfor -%}
    {{- return(false) -}}
{% endmacro %}

{% macro duckdb__compact(relation, where, target_mb, alone) %}
    {%- if where -%}
        {{ exceptions.raise_compiler_error("Lakebed: DuckLake compacts whole tables; `where` works on Delta only. Nothing was compacted.") }}
    {%- endif -%}
    {%- set database = lakebed.text_literal(relation.database) -%}
    {%- set names = 'table_name => ' ~ lakebed.text_literal(relation.identifier) ~ ', schema' -%}
    {%- do lakebed.check_inlined(relation, alone) -%}
    {#- Each step sees only what was committed before it. Merging takes a few neighbours at a time, which
        bounds its memory; so until nothing is left to do. -#}
    {%- for step in [
        'ducklake_set_option(' ~ database ~ ", 'target_file_size', '" ~ target_mb ~ "MB', " ~ names ~ ' => ' ~ lakebed.text_literal(relation.schema) ~ ')',
        'ducklake_flush_inlined_data(' ~ database ~ ', ' ~ names ~ '_name => ' ~ lakebed.text_literal(relation.schema) ~ ')',
        'ducklake_rewrite_data_files(' ~ lakebed.ducklake_table(relation) ~ ', delete_threshold => 0)',
    ] -%}
        {%- do run_query('call ' ~ step) -%}
        {%- do adapter.commit() -%}
    {%- endfor -%}
    {%- set merging = {'on': true} -%}
    {%- for _ in range(10000) if merging.on -%}
        {%- do merging.update(on=run_query('call ducklake_merge_adjacent_files(' ~ lakebed.ducklake_table(relation) ~ ')').rows | length > 0) -%}
        {%- do adapter.commit() -%}
    {%- endfor -%}
{% endmacro %}

{% macro compact_sorted(relation, by, target_mb, alone=false) %}{{- return(adapter.dispatch('compact_sorted', 'lakebed')(relation, by, target_mb, alone)) -}}{% endmacro %}

{#- DuckLake's own compaction merges files as they come, sorts at most within each, and leaves large ones
    alone. So the rows are written anew, along a Z-order curve: the bits of each column's rank, taken in
    turn, make the place of a row. -#}
{% macro duckdb__compact_sorted(relation, by, target_mb, alone) %}
    {%- if by | length > 4 -%}
        {{ exceptions.raise_compiler_error("Lakebed: cluster takes up to four columns; more would hardly order by any of them.") }}
    {%- endif -%}
    {%- do lakebed.compact(relation, none, target_mb, alone) -%}
    {%- set ranks, places = [], [] -%}
    {%- for column in by -%}
        {%- do ranks.append('ntile(256) over (order by ' ~ adapter.quote(column) ~ ') - 1 as _rank_' ~ loop.index0) -%}
    {%- endfor -%}
    {%- for bit in range(8) -%}
        {%- for _ in by -%}
            {%- do places.append('(((_rank_' ~ loop.index0 ~ ' >> ' ~ bit ~ ') & 1) << ' ~ (bit * (by | length) + (by | length) - loop.index) ~ ')') -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- do lakebed.ducklake_rewrite(
        relation,
        'select *, ' ~ ranks | join(', ') ~ ' from ' ~ relation,
        '* exclude (' ~ modules.re.findall('_rank_[0-9]', ranks | join(' ')) | join(', ') ~ ')',
        places | join(' + ')
    ) -%}
{% endmacro %}

{#- Gives a table the rows of a query, in one transaction of its own. By way of a temporary table: within
    a transaction DuckLake 1.5.5 takes what was deleted in it out of old versions too. -#}
{% macro ducklake_rewrite(relation, rows, columns='*', order_by=none, where='true') %}
    {%- do adapter.commit() -%}
    {%- for statement in [
        'begin',
        'create or replace temporary table lakebed_rewrite as ' ~ rows,
        'delete from ' ~ relation ~ ' where ' ~ where,
        'insert into ' ~ relation ~ ' select ' ~ columns ~ ' from lakebed_rewrite' ~ (' order by ' ~ order_by if order_by else ''),
    ] -%}
        {%- do run_query(statement) -%}
    {%- endfor -%}
    {%- if run_query('select (select count(*) from ' ~ relation ~ ' where ' ~ where ~ ') = (select count(*) from lakebed_rewrite)').rows[0][0] is not true -%}
        {%- do run_query('rollback') -%}
        {{ exceptions.raise_compiler_error("Lakebed: not all rows of " ~ relation.schema ~ "." ~ relation.identifier ~ " were written anew; nothing was changed.") }}
    {%- endif -%}
    {%- do run_query('commit') -%}
    {%- do run_query('drop table lakebed_rewrite') -%}
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

{% macro changes_sql(relation, first, last) %}{{- return(adapter.dispatch('changes_sql', 'lakebed')(relation, first, last)) -}}{% endmacro %}

{#- One question a version: over several, deletes are ascribed to wrong versions once inlined rows were
    flushed, and while threads open files beside one another a delete's version is at times not found
    at all (DuckLake 1.5.5). So neither its `snapshot_id` nor `ducklake_table_changes`, which joins
    by it, is asked: within one version row ids say enough. -#}
{% macro duckdb__changes_sql(relation, first, last) -%}
    {%- set versions = [] -%}
    {%- if execute -%}
        {%- do lakebed.check_version_order(first, last) -%}
        {%- set metadata = adapter.quote('__ducklake_metadata_' ~ relation.database) -%}
        {%- set known = run_query(
            'select tables.table_id, min(began.begin_snapshot) from ' ~ metadata ~ '.ducklake_table as tables'
            ~ ' inner join ' ~ metadata ~ '.ducklake_schema as schemas on tables.schema_id = schemas.schema_id and schemas.end_snapshot is null'
            ~ ' inner join ' ~ metadata ~ '.ducklake_table as began on tables.table_id = began.table_id'
            ~ ' where tables.end_snapshot is null and schemas.schema_name = ' ~ lakebed.text_literal(relation.schema) ~ ' and tables.table_name = ' ~ lakebed.text_literal(relation.identifier)
            ~ ' group by tables.table_id'
        ).rows[0] -%}
        {%- if first < known[1] -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " is there since version " ~ known[1] ~ " (a full rebuild makes a table anew): its changes start after that, not after " ~ first ~ ".") }}
        {%- endif -%}
        {%- set versions = run_query(
            'select snapshot_id from ducklake_snapshots(' ~ lakebed.text_literal(relation.database) ~ ') where snapshot_id > ' ~ first ~ ' and snapshot_id <= ' ~ last
            ~ " and list_contains(flatten([coalesce(changes[kind], []) for kind in ['tables_inserted_into', 'tables_deleted_from', 'inlined_insert', 'inlined_delete']]), '" ~ known[0] ~ "') order by 1"
        ).columns[0].values() | map('int') | list -%}
    {%- endif -%}
    {%- for version in versions -%}
        {{ lakebed.ducklake_changes(relation, version) }}{{ '\nunion all by name\n' if not loop.last }}
    {%- else -%}
        select * from ({{ lakebed.ducklake_changes(relation, last) }}) where false
    {%- endfor -%}
{%- endmacro %}

{#- Rows that came and went in one version. -#}
{% macro ducklake_changes(relation, version) -%}
    {%- set at = '(' ~ lakebed.text_literal(relation.database) ~ ', ' ~ lakebed.text_literal(relation.schema) ~ ', ' ~ lakebed.text_literal(relation.identifier) ~ ', ' ~ version ~ ', ' ~ version ~ ')' -%}
    {%- set came, went = 'ducklake_table_insertions' ~ at, 'ducklake_table_deletions' ~ at -%}
    {%- set number = 'cast(' ~ version ~ ' as bigint)' -%}
    select if(rowid in (select rowid from {{ went }}), 'update_postimage', 'insert') as _change_type, {{ number }} as _change_version, {{ number }} as _change_order, * from {{ came }}
    union all by name
    select if(rowid in (select rowid from {{ came }}), 'update_preimage', 'delete') as _change_type, {{ number }} as _change_version, {{ number }} as _change_order, * from {{ went }}
{%- endmacro %}

{#- For formats whose versions are counted. -#}
{% macro check_version_order(first, last) %}
    {%- if first > last -%}
        {{ exceptions.raise_compiler_error("Lakebed: changes_between goes from an older version to a newer one, not from " ~ first ~ " to " ~ last ~ ".") }}
    {%- endif -%}
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

