{#- Erasure from the history of Iceberg tables: old snapshots, and the smallest and largest values of files
    that manifests keep, also of files that are gone. -#}

{#- A branch is somebody's other version of the table, with rows that nothing here has looked at. -#}
{% macro iceberg_erase_folder(relation) %}
    {%- set name = relation.schema ~ '.' ~ relation.identifier -%}
    {%- for row in run_query('show tblproperties ' ~ relation).rows if row[0] in ['write.data.path', 'write.metadata.path', 'write.object-storage.path', 'write.folder-storage.path'] -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ " has files outside its folder (" ~ row[0] ~ "), whose history cannot be erased. Nothing was erased.") }}
    {%- endfor -%}
    {%- for row in run_query('select name from ' ~ relation ~ ".refs where type = 'BRANCH' and name != 'main'").rows -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ " has a branch '" ~ row[0] ~ "', which erasure does not look at: drop it first. Nothing was erased.") }}
    {%- endfor -%}
    {{- return({'folder': lakebed.iceberg_metadata_file(relation).rsplit('/metadata/', 1)[0], 'format': 'iceberg'}) -}}
{% endmacro %}

{% macro iceberg_metadata_file(relation) %}
    {{- return(run_query('select file from ' ~ relation ~ '.metadata_log_entries order by timestamp desc, file desc limit 1').rows[0][0]) -}}
{% endmacro %}

{#- One snapshot is left, whose manifests are of live files only. Tags go. Returns: {folder: files of the table}. -#}
{% macro iceberg_erase_history(relation) %}
    {%- if lakebed.iceberg_newest_version(relation) -%}
        {%- for row in run_query('select name from ' ~ relation ~ ".refs where type = 'TAG'").rows -%}
            {%- do lakebed.iceberg_remove_tag(relation, row[0]) -%}
        {%- endfor -%}
        {%- if run_query('select 1 from ' ~ relation ~ '.delete_files limit 1').rows -%}
            {%- do lakebed.iceberg_rewrite(relation, 128, ["'rewrite-all', 'true'"]) -%}
        {%- else -%}
            {%- do lakebed.iceberg_call('rewrite_manifests', relation) -%}
        {%- endif -%}
        {%- if lakebed.iceberg_remembers(relation) -%}
            {#- A single manifest is left as it is, though it names files that are gone. -#}
            {%- do run_query('insert into ' ~ relation ~ ' replace where true select * from ' ~ relation) -%}
            {%- do lakebed.iceberg_call('rewrite_manifests', relation) -%}
        {%- endif -%}
        {%- if lakebed.iceberg_remembers(relation) -%}
            {{ exceptions.raise_compiler_error("Lakebed: the manifests of " ~ relation.schema ~ "." ~ relation.identifier ~ " still name files that are gone: is something writing to it? Run the same again.") }}
        {%- endif -%}
        {%- do lakebed.iceberg_call('expire_snapshots', relation, "older_than => timestamp '9999-01-01 00:00:00', retain_last => 1") -%}
    {%- endif -%}
    {%- set file = lakebed.iceberg_metadata_file(relation) -%}
    {%- set files = [file] -%}
    {%- for part in ['select file_path from ' ~ relation ~ '.files', 'select path from ' ~ relation ~ '.manifests', 'select manifest_list from ' ~ relation ~ '.snapshots'] -%}
        {%- for row in run_query(part).rows -%}{%- do files.append(row[0]) -%}{%- endfor -%}
    {%- endfor -%}
    {{- return({file.rsplit('/metadata/', 1)[0]: files}) -}}
{% endmacro %}

{#- Whether manifests of the present snapshot name files that are not in it, or rows are hidden by deletes. -#}
{% macro iceberg_remembers(relation) %}
    {%- set traces = 'select 1 from ' ~ relation ~ '.entries where status = 2 union all select 1 from ' ~ relation ~ '.delete_files limit 1' -%}
    {{- return(run_query(traces).rows | length > 0) -}}
{% endmacro %}
