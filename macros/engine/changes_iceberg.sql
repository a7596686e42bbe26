{#- The rows that changed between two versions of an Iceberg table, from its own changelog. Iceberg writes
    whole files anew, so that the changelog has every row of such a file as deleted and inserted: what
    is the same on both sides is no change. Which row became which Iceberg does not keep; a
    model's `unique_key` says it, and without one an update is a delete and an insert. -#}
{% macro iceberg_changes_sql(relation, first, last) -%}
    {%- set columns, names = [], [] -%}
    {%- if execute -%}{%- set columns = adapter.get_columns_in_relation(relation) -%}{%- endif -%}
    {%- for column in columns -%}{%- do names.append(adapter.quote(column.name)) -%}{%- endfor -%}
    {%- set columns = names | join(', ') -%}
    {%- set parts = lakebed.iceberg_change_parts(relation, first, last, names) -%}
    {%- set key = lakebed.iceberg_key(relation, names) -%}
    with
    rewritten as (
        {{ parts | join('\n        union all\n        ') }}
    ),
    changed as (
        select _change_version, _change_order, {{ columns }}, sum(_copies) as _copies
        from rewritten
        group by _change_version, _change_order, {{ columns }}
        having sum(_copies) != 0
    ),
    known as (
        select *, {{ "count(*) over (partition by _change_order, " ~ key ~ ") = 2 and min(_copies) over (partition by _change_order, " ~ key ~ ") = -1 and max(_copies) over (partition by _change_order, " ~ key ~ ") = 1" if key else 'false' }} as _is_update
        from changed
    )
    select
        case
            when _is_update then case when _copies > 0 then 'update_postimage' else 'update_preimage' end
            else case when _copies > 0 then 'insert' else 'delete' end
        end as _change_type,
        _change_version, _change_order, {{ columns }}
    from known lateral view explode(sequence(1L, abs(_copies))) copies as _copy
{%- endmacro %}

{#- Selects of the rows of the versions after one, up to another, with 1 for a row that came and -1 for one
    that went. The changelog does not know delete files (merge-on-read): when there are some, each version
    is compared with the one before. Not the one for some versions and the other for the rest: Spark 4.0
    takes two reads of a table in one statement for the same, whatever their options. -#}
{% macro iceberg_change_parts(relation, first, last, names) %}
    {%- set line, whole = lakebed.iceberg_line(relation, first, last) -%}
    {%- if execute and not whole -%}
        {{ exceptions.raise_compiler_error("Lakebed: version " ~ last ~ " of " ~ relation.schema ~ "." ~ relation.identifier ~ " does not come from version " ~ first ~ ": that one is newer, or expired, or from before a full rebuild, which makes a table anew. Its changes are known after version " ~ (line[-1].id if line else last) ~ ".") }}
    {%- endif -%}
    {%- set line = line | rejectattr('rewrites') | list -%}
    {%- set parts = [] -%}
    {%- if not line -%}
        {%- do parts.append('select cast(' ~ last ~ ' as bigint) as _change_version, 0 as _change_order, 1 as _copies, ' ~ (names | join(', ') or '*') ~ ' from ' ~ relation ~ ' where false') -%}
    {%- elif line | selectattr('deletes') | list -%}
        {%- for version in line -%}
            {%- for source, copies in [(version.parent, -1), (version.id, 1)] if source -%}
                {%- set old = lakebed.version_sql(relation, source, none) -%}
                {%- set then = get_column_schema_from_query('select * from ' ~ old ~ ' where false') | map(attribute='name') | list -%}
                {%- set read = [] -%}
                {%- for name in names -%}{%- do read.append(name if name | replace('`', '') in then else 'null as ' ~ name) -%}{%- endfor -%}
                {%- do parts.append('select ' ~ version.id ~ ' as _change_version, ' ~ version.order ~ ' as _change_order, ' ~ copies ~ ' as _copies, ' ~ read | join(', ') ~ ' from ' ~ old) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- else -%}
        {%- set since = "`start-snapshot-id` = '" ~ line[-1].parent ~ "', " if line[-1].parent else '' -%}
        {%- do parts.append("select _commit_snapshot_id as _change_version, _change_ordinal as _change_order, case _change_type when 'INSERT' then 1 else -1 end as _copies, " ~ names | join(', ') ~ ' from ' ~ relation ~ '.changes with (' ~ since ~ "`end-snapshot-id` = '" ~ line[0].id ~ "')") -%}
    {%- endif -%}
    {{- return(parts) -}}
{% endmacro %}

{#- The versions after one, up to another, the newest first, with their place in that line. Those that only
    write files anew are `rewrites`; `deletes` have manifests of delete files, if only of those that are
    gone (an append hands such manifests on): the changelog fails at them. Returns: a list of {id,
    parent, rewrites, deletes, bytes, order}; and whether it is whole: that the other comes from the one,
    which is kept still. -#}
{% macro iceberg_line(relation, first, last) %}
    {%- set found, known, at = [], {}, {'id': last} -%}
    {%- if not execute -%}{{- return([found, false]) -}}{%- endif -%}
    {%- for row in run_query(
        "select snapshot_id, coalesce(parent_id, 0), operation, reference_snapshot_id, coalesce(summary['added-files-size'], '0') from " ~ relation ~ '.snapshots'
        ~ ' left join (select distinct reference_snapshot_id from ' ~ relation ~ '.all_manifests where content = 1) as deleting on snapshot_id = reference_snapshot_id'
    ).rows -%}
        {%- do known.update({row[0] | int: {'id': row[0] | int, 'parent': row[1] | int, 'rewrites': row[2] == 'replace', 'deletes': row[3] is not none, 'bytes': row[4] | int}}) -%}
    {%- endfor -%}
    {%- for _ in known if at.id in known and at.id != first -%}
        {%- do found.append(known[at.id]) -%}
        {%- do at.update(id=known[at.id].parent) -%}
    {%- endfor -%}
    {%- for version in found -%}{%- do version.update(order=found | length - loop.index) -%}{%- endfor -%}
    {{- return([found, at.id == first and (first == 0 or first in known)]) -}}
{% endmacro %}

{#- The columns by which a row is the same row: the `unique_key` of the table's model. Returns: text. -#}
{% macro iceberg_key(relation, names) %}
    {%- set found = [] -%}
    {%- for node in graph.get('nodes', {}).values() if execute and node.schema == relation.schema and node.alias == relation.identifier and node.config.get('unique_key') -%}
        {%- for column in ([node.config.unique_key] if node.config.unique_key is string else node.config.unique_key) -%}{%- do found.append(adapter.quote(column)) -%}{%- endfor -%}
    {%- endfor -%}
    {{- return(found | join(', ') if found and found | reject('in', names) | list == [] else '') -}}
{% endmacro %}
