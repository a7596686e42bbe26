{#- What `lakebed maintain` (macros/storage/maintain.sql) measures, cheaply: DuckLake's catalogue knows all
    of it; on Delta it is two queries a table, of the log only, on Iceberg a few of its metadata.
    Returns: {tables: [{table, files, bytes, small_files, small_bytes, delete_files, deleted_rows, rows,
    dirty_bytes, inlined_rows, new_bytes, versions, version, expirable}], lake: {...} or none}.
    new_bytes: written since the table was last clustered. -#}
{% macro measured_tables(keep_days) %}{{- return(adapter.dispatch('measured_tables', 'lakebed')(keep_days)) -}}{% endmacro %}

{% macro duckdb__measured_tables(keep_days) %}
    {%- set database = lakebed.text_literal(lakebed.maintenance().database) -%}
    {%- set metadata = adapter.quote('__ducklake_metadata_' ~ lakebed.maintenance().database) -%}
    {%- set inlined = ["select null::bigint as table_id, 0 as inlined where false"] -%}
    {%- for name in lakebed.ducklake_inlined_tables(lakebed.maintenance().database) -%}
        {%- do inlined.append('select ' ~ modules.re.findall('[0-9]+', name)[0] ~ ' as table_id, count(*) as inlined from ' ~ metadata ~ '.' ~ adapter.quote(name)) -%}
    {%- endfor -%}
    {%- set clustered = "select null as table_schema, null as table_name, 0 as version where false" -%}
    {%- if load_relation(lakebed.maintenance()) -%}
        {%- set clustered = "select table_schema, table_name, max(version) as version from " ~ lakebed.maintenance() ~ " where action = 'cluster' and state = 'done' group by all" -%}
    {%- endif -%}
    {%- set rows = run_query("
        with
        deletes as (select data_file_id, sum(delete_count) as deleted from " ~ metadata ~ ".ducklake_delete_file where end_snapshot is null group by all),
        files as (
            select
                f.table_id,
                count(*) as files,
                sum(f.file_size_bytes) as bytes,
                sum(f.record_count) as rows,
                count(*) filter (f.file_size_bytes < 32000000) as small_files,
                sum(f.file_size_bytes) filter (f.file_size_bytes < 32000000) as small_bytes,
                count(d.data_file_id) as delete_files,
                sum(d.deleted) as deleted_rows,
                sum(f.file_size_bytes) filter (d.deleted > 0) as dirty_bytes,
                list({'s': f.begin_snapshot, 'b': f.file_size_bytes}) as parts
            from " ~ metadata ~ ".ducklake_data_file as f
            left join deletes as d on f.data_file_id = d.data_file_id
            where f.end_snapshot is null
            group by all
        ),
        inlined as (select table_id, sum(inlined) as inlined from (" ~ inlined | join(' union all ') ~ ") group by all)
        select
            s.schema_name, t.table_name, files, bytes, rows, small_files, small_bytes, delete_files, deleted_rows, dirty_bytes, inlined,
            list_sum(list_transform(list_filter(parts, lambda p: p.s > coalesce(c.version, -1)), lambda p: p.b)) as new_bytes
        from " ~ metadata ~ ".ducklake_table as t
        inner join " ~ metadata ~ ".ducklake_schema as s on t.schema_id = s.schema_id and s.end_snapshot is null
        left join files on t.table_id = files.table_id
        left join inlined on t.table_id = inlined.table_id
        left join (" ~ clustered ~ ") as c on s.schema_name = c.table_schema and t.table_name = c.table_name
        where t.end_snapshot is null
        order by all").rows -%}
    {%- set tables = [] -%}
    {%- for row in rows -%}
        {%- set facts = {'table': row[0] ~ '.' ~ row[1], 'versions': 0, 'version': 0, 'expirable': false} -%}
        {%- for name in ['files', 'bytes', 'rows', 'small_files', 'small_bytes', 'delete_files', 'deleted_rows', 'dirty_bytes', 'inlined_rows', 'new_bytes'] -%}
            {%- do facts.update({name: (row[loop.index + 1] or 0) | int}) -%}
        {%- endfor -%}
        {%- do tables.append(facts) -%}
    {%- endfor -%}
    {%- set old = lakebed.expirable_snapshots(keep_days) -%}
    {%- set lake = run_query(
        'select (select count(*) from ducklake_snapshots(' ~ database ~ ')), (select count(*) from ' ~ metadata ~ '.ducklake_files_scheduled_for_deletion where schedule_start < (' ~ lakebed.as_of() ~ " at time zone 'UTC') - interval '1 day'), "
        ~ '(select coalesce(sum(file_size_bytes), 0) from ' ~ metadata ~ ".ducklake_data_file where end_snapshot is not null)"
    ).rows[0] -%}
    {{- return({'tables': tables, 'lake': {'versions': lake[0] | int, 'expirable': old | length, 'removable_files': lake[1] | int, 'old_bytes': lake[2] | int, 'shared': lakebed.has_shared_catalogue(target.database)}}) -}}
{% endmacro %}

{% macro spark__measured_tables(keep_days) %}
    {%- set schemas, tables, tagged, clustered = [], [], [], {} -%}
    {%- if load_relation(lakebed.tags()) -%}
        {#- Delta cannot keep an old version alone: such a table is not expired. -#}
        {%- for row in run_query('select distinct table_schema, table_name from ' ~ lakebed.tags() ~ ' where tagged_at < ' ~ lakebed.as_of() ~ ' - make_interval(0, 0, 0, ' ~ keep_days ~ ')').rows -%}
            {%- do tagged.append(row[0] ~ '.' ~ row[1]) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- for done in lakebed.last_maintenance() if done.action == 'cluster' -%}{%- do clustered.update({done.table: done.version}) -%}{%- endfor -%}
    {%- for node in graph.nodes.values() if node.resource_type in ['model', 'snapshot', 'seed'] and node.schema not in schemas -%}{%- do schemas.append(node.schema) -%}{%- endfor -%}
    {%- if lakebed.maintenance().schema not in schemas -%}{%- do schemas.append(lakebed.maintenance().schema) -%}{%- endif -%}
    {%- for schema in schemas | sort if adapter.check_schema_exists(none, schema) -%}
        {%- for row in list_relations_without_caching(api.Relation.create(schema=schema)) -%}
            {%- set relation = api.Relation.create(schema=row[0], identifier=row[1]) -%}
            {%- if 'Provider: delta' in row[3] -%}
                {%- do tables.append(lakebed.delta_measured(relation, keep_days, tagged)) -%}
            {%- elif 'table_type=ICEBERG' in row[3] -%}
                {%- do tables.append(lakebed.iceberg_measured(relation, keep_days, clustered.get(row[0] ~ '.' ~ row[1], -1))) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{- return({'tables': tables, 'lake': none}) -}}
{% endmacro %}

{% macro delta_measured(relation, keep_days, tagged) %}
    {%- set detail = run_query('describe detail ' ~ relation).rows[0] -%}
    {%- set name = relation.schema ~ '.' ~ relation.identifier -%}
    {%- set new = {'bytes': 0, 'open': true} -%}
    {%- set history = run_query('describe history ' ~ relation).rows -%}
    {%- for row in history if new.open -%}
        {#- Maps come as text that is no JSON from one driver, as dictionaries from another. -#}
        {%- if row['operation'] == 'OPTIMIZE' and modules.re.search('zOrderBy[^\\[]*\\[[^\\]]', row['operationParameters'] | string) -%}
            {%- do new.update(open=false) -%}
        {%- else -%}
            {%- for name, written in modules.re.findall('(numOutputBytes|numTargetBytesAdded|numAddedBytes)[^0-9]+([0-9]+)', row['operationMetrics'] | string) -%}
                {%- do new.update(bytes=new.bytes + written | int) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set files, bytes = detail['numFiles'] | int, detail['sizeInBytes'] | int -%}
    {%- set small = files if bytes / [files, 1] | max < 32000000 else 0 -%}
    {%- set age = (modules.datetime.datetime.fromisoformat(lakebed.as_of_text()[:19]) - modules.datetime.datetime.fromisoformat(history[-1]['timestamp'] | string | replace('T', ' ') | truncate(19, true, '', 0))).days -%}
    {{- return({
        'table': name, 'files': files, 'bytes': bytes, 'rows': 0, 'small_files': small, 'small_bytes': bytes if small else 0,
        'delete_files': 0, 'deleted_rows': 0, 'dirty_bytes': 0, 'inlined_rows': 0, 'new_bytes': bytes if new.open else [new.bytes, bytes] | min,
        'versions': history | length, 'version': history[0]['version'] | int, 'expirable': age > [keep_days, 7] | max and name not in tagged,
    }) -}}
{% endmacro %}

{#- Which files the delete files speak of is not always known: what it costs to write them anew is at most
    the whole table. Arguments: clustered, the version that `cluster` left, or -1. -#}
{% macro iceberg_measured(relation, keep_days, clustered) %}
    {%- set row = run_query(
        'select count(*), coalesce(sum(file_size_in_bytes), 0), coalesce(sum(record_count), 0), count_if(file_size_in_bytes < 32000000), coalesce(sum(file_size_in_bytes) filter (where file_size_in_bytes < 32000000), 0),'
        ~ ' (select count(*) from ' ~ relation ~ '.delete_files), (select coalesce(sum(record_count), 0) from ' ~ relation ~ '.delete_files)'
        ~ ' from ' ~ relation ~ '.data_files'
    ).rows[0] -%}
    {%- set bytes, deletes, version = row[1] | int, row[5] | int, lakebed.iceberg_newest_version(relation) -%}
    {%- set line, whole = lakebed.iceberg_line(relation, clustered, version) -%}
    {%- set new = line | rejectattr('rewrites') | map(attribute='bytes') | sum if whole else bytes -%}
    {%- set moment = lakebed.iceberg_expire_before(relation, keep_days) -%}
    {%- set versions = run_query(
        "select count(*), count_if(committed_at < timestamp '" ~ (moment or '1970-01-01') ~ "' and named.snapshot_id is null)"
        ~ ' from ' ~ relation ~ '.snapshots as versions left join (select distinct snapshot_id from ' ~ relation ~ '.refs) as named on versions.snapshot_id = named.snapshot_id'
    ).rows[0] -%}
    {{- return({
        'table': relation.schema ~ '.' ~ relation.identifier, 'files': row[0] | int, 'bytes': bytes, 'rows': row[2] | int, 'small_files': row[3] | int, 'small_bytes': row[4] | int,
        'delete_files': deletes, 'deleted_rows': row[6] | int, 'dirty_bytes': bytes if deletes else 0, 'inlined_rows': 0, 'new_bytes': [new, bytes] | min,
        'versions': versions[0] | int, 'version': version, 'expirable': versions[1] | int > 0,
    }) -}}
{% endmacro %}
