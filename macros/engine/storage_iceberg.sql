{#- The storage verbs on Iceberg, by Spark. A version is a snapshot's id: a number, but in no order; what
    came before what is in the snapshots' parents. -#}

{% macro iceberg_call(procedure, relation, arguments) %}
    {{- return(run_query('call spark_catalog.system.' ~ procedure ~ '(table => ' ~ lakebed.text_literal(relation.schema ~ '.' ~ relation.identifier) ~ (', ' ~ arguments if arguments else '') ~ ')').rows) -}}
{% endmacro %}

{#- Position and equality deletes are files of their own: of these it is the number. -#}
{% macro iceberg_table_health(relation) %}
    {%- set row = run_query(
        'select count(*), coalesce(sum(file_size_in_bytes), 0), (select count(*) from ' ~ relation ~ '.delete_files), (select count(*) from ' ~ relation ~ '.snapshots) from ' ~ relation ~ '.data_files'
    ).rows[0] -%}
    {{- return({'table': relation.schema ~ '.' ~ relation.identifier, 'files': row[0] | int, 'bytes': row[1] | int, 'mean_bytes': (row[1] | int / [row[0] | int, 1] | max) | int, 'files_with_deletes': row[2] | int, 'versions': row[3] | int}) -}}
{% endmacro %}

{#- Delete files whose rows have left the data files go too: the rewrite itself takes those that are older
    than every data file, and Puffin's. The manifests are put in order after that. -#}
{% macro iceberg_rewrite(relation, target_mb, options, more='') %}
    {%- set options = ["'target-file-size-bytes', '" ~ target_mb * 1000000 ~ "'", "'remove-dangling-deletes', 'true'"] + options -%}
    {%- do lakebed.iceberg_call('rewrite_data_files', relation, 'options => map(' ~ options | join(', ') ~ ')' ~ more) -%}
    {%- if run_query('select 1 from ' ~ relation ~ ".delete_files where content = 1 and file_format != 'PUFFIN' limit 1").rows -%}
        {%- do lakebed.iceberg_call('rewrite_position_delete_files', relation, "options => map('rewrite-all', 'true')") -%}
    {%- endif -%}
    {%- do lakebed.iceberg_call('rewrite_manifests', relation) -%}
{% endmacro %}

{% macro iceberg_compact(relation, where, target_mb) %}
    {%- do lakebed.iceberg_rewrite(
        relation, target_mb, ["'min-input-files', '2'", "'delete-file-threshold', '1'"],
        ', where => ' ~ lakebed.text_literal(where) if where else ''
    ) -%}
{% endmacro %}

{% macro iceberg_compact_sorted(relation, columns, target_mb) %}
    {%- do lakebed.iceberg_rewrite(
        relation, target_mb, ["'rewrite-all', 'true'"],
        ", strategy => 'sort', sort_order => " ~ lakebed.text_literal('zorder(' ~ columns ~ ')')
    ) -%}
{% endmacro %}

{#- 0 before the first snapshot. -#}
{% macro iceberg_newest_version(relation) %}
    {%- set found = run_query('select snapshot_id from ' ~ relation ~ ".refs where name = 'main'").rows -%}
    {{- return(found[0][0] | int if found else 0) -}}
{% endmacro %}

{#- Iceberg's own tags, which every other tool sees, and which its expiry keeps. -#}
{% macro iceberg_version_of_tag(relation, name) %}
    {%- set found = run_query('select snapshot_id from ' ~ relation ~ ".refs where type = 'TAG' and name = " ~ lakebed.text_literal(name)).rows -%}
    {{- return(found[0][0] | int if found else none) -}}
{% endmacro %}

{% macro iceberg_set_tag(relation, name, version) %}
    {%- set version = lakebed.iceberg_newest_version(relation) if version is none else version -%}
    {%- if not version -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " has no version yet to be tagged: nothing was ever written to it.") }}
    {%- elif run_query('select 1 from ' ~ relation ~ '.refs where name = ' ~ lakebed.text_literal(name)).rows -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ relation.schema ~ "." ~ relation.identifier ~ " has a branch '" ~ name ~ "': choose another name.") }}
    {%- endif -%}
    {%- do run_query('alter table ' ~ relation ~ ' create tag `' ~ name | string | replace('`', '``') ~ '` as of version ' ~ version) -%}
    {{- return(version) -}}
{% endmacro %}

{% macro iceberg_remove_tag(relation, name) %}
    {%- do run_query('alter table ' ~ relation ~ ' drop tag `' ~ name | string | replace('`', '``') ~ '`') -%}
{% endmacro %}

{#- Iceberg's rollback would take the later versions out of the table's line, and with them their changes. -#}
{% macro iceberg_restore_rows(relation, old) %}
    {%- do lakebed.iceberg_check_same_columns(relation, old) -%}
    {%- do run_query('insert into ' ~ relation ~ ' replace where true select * from ' ~ old) -%}
{% endmacro %}

{% macro iceberg_check_same_columns(relation, old) %}
    {%- set sides = [] -%}
    {%- for source in [relation, old] -%}
        {%- set columns = [] -%}
        {%- for row in run_query('describe query select * from ' ~ source).rows -%}{%- do columns.append(row[0] ~ ' ' ~ row[1]) -%}{%- endfor -%}
        {%- do sides.append(columns) -%}
    {%- endfor -%}
    {%- if sides[0] != sides[1] -%}
        {{ exceptions.raise_compiler_error("Lakebed: the columns of " ~ relation.schema ~ "." ~ relation.identifier ~ " were others then (" ~ sides[1] | join(', ') ~ "); it is not restored. Its old rows can be read with table_as_of.") }}
    {%- endif -%}
{% endmacro %}

{#- `replace where` takes whole files only. A merge takes rows: what is in the interval meets the one row of
    part 1 and goes; the old rows, of part 2, meet nothing and come. -#}
{% macro iceberg_restore_interval(relation, old, condition) %}
    {%- do lakebed.iceberg_check_same_columns(relation, old) -%}
    {%- set new, nulls, values, names = [], [], [], [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) -%}
        {%- set name = adapter.quote(column.name) -%}
        {%- do names.append(name) -%}
        {%- do new.append(name ~ ' as _new_' ~ loop.index) -%}
        {%- do nulls.append('null') -%}
        {%- do values.append('_new_' ~ loop.index) -%}
    {%- endfor -%}
    {%- do run_query(
        'merge into ' ~ relation ~ ' using (select 2 as _part, ' ~ new | join(', ') ~ ' from ' ~ old ~ ' where ' ~ condition ~ ' union all select 1, ' ~ nulls | join(', ') ~ ') as old'
        ~ ' on old._part = case when ' ~ condition ~ ' then 1 else 0 end and ' ~ condition
        ~ ' when matched then delete when not matched and old._part = 2 then insert (' ~ names | join(', ') ~ ') values (' ~ values | join(', ') ~ ')'
    ) -%}
{% endmacro %}

{#- The oldest moment that expiry may start at: what was the present version at any time since some days
    ago stays, though it is older itself. At least a day, for readers. Returns: text, or none. -#}
{% macro iceberg_expire_before(relation, days) %}
    {%- set row = run_query(
        'select date_format(min(snapshots.committed_at), ' ~ lakebed.text_literal('yyyy-MM-dd HH:mm:ss.SSSSSS') ~ ')'
        ~ " from (select snapshot_id, coalesce(lead(made_current_at) over (order by made_current_at), timestamp '9999-01-01 00:00:00') as replaced_at from " ~ relation ~ '.history) as line'
        ~ ' inner join ' ~ relation ~ '.snapshots as snapshots on line.snapshot_id = snapshots.snapshot_id'
        ~ ' where replaced_at > ' ~ lakebed.as_of() ~ ' - make_interval(0, 0, 0, ' ~ [days, 1] | max ~ ')'
    ).rows[0] -%}
    {{- return(row[0]) -}}
{% endmacro %}

{#- Files of no version go when they are three days old, by the clock of the machine: a writer may be
    about to commit younger ones. -#}
{% macro iceberg_expire(days, tables, dry_run) %}
    {%- set total = {'versions': 0, 'files': 0} -%}
    {%- for table in tables -%}
        {%- set before = lakebed.iceberg_table_health(table).versions -%}
        {%- set moment = lakebed.iceberg_expire_before(table, days) -%}
        {%- if moment and dry_run -%}
            {%- set old = "select count(*) from " ~ table ~ ".snapshots where committed_at < timestamp '" ~ moment ~ "' and snapshot_id not in (select snapshot_id from " ~ table ~ ".refs)" -%}
            {%- do total.update(versions=total.versions + run_query(old).rows[0][0] | int) -%}
        {%- elif moment -%}
            {%- set gone = lakebed.iceberg_call('expire_snapshots', table, "older_than => timestamp '" ~ moment ~ "'")[0] -%}
            {%- for number in gone.values() if number -%}{%- do total.update(files=total.files + number | int) -%}{%- endfor -%}
        {%- endif -%}
        {%- do total.update(files=total.files + lakebed.iceberg_call('remove_orphan_files', table, 'dry_run => true' if dry_run else none) | length) -%}
        {%- if not dry_run -%}{%- do total.update(versions=total.versions + before - lakebed.iceberg_table_health(table).versions) -%}{%- endif -%}
    {%- endfor -%}
    {%- do lakebed.say_expired(total.versions, total.files, dry_run) -%}
{% endmacro %}
