{#- Erases subjects from the tables of a plan: `lakebed erase run` makes the plan and calls this.
    Deletes or anonymises as each table's policy says; run twice, or killed and run again, it ends
    the same. On DuckDB everything happens in one transaction; on Spark table by table, each
    in one, with the tables first from which others copy.
    The keys themselves come by the environment (LAKEBED_ERASURE_SUBJECTS, a JSON list), since dbt
    writes its arguments to its log.
    Arguments: plan, a dictionary made by python/lakebed/erase/cli.py; dry_run, only counts.
    Prints one line of JSON: rows by table. Engines: DuckDB, Spark. -#}
{% macro erase_rows(plan, dry_run=false) %}
    {%- set keys = fromjson(env_var('LAKEBED_ERASURE_SUBJECTS')) -%}
    {%- do lakebed.has_erasures(plan.subject) -%}
    {%- set counts, statements = {}, [] -%}
    {%- for table in plan.tables -%}
        {%- set relation = load_relation(api.Relation.create(database=table.database or none, schema=table.schema, identifier=table.identifier)) -%}
        {%- if relation -%}
            {%- do lakebed.refuse_untagged(table, relation) -%}
            {%- set found = lakebed.rows_of_subject(table, keys) -%}
            {%- set rows = run_query('select count(*) from ' ~ relation ~ ' as t where ' ~ found.theirs ~ ' or ' ~ found.lost).rows[0][0] | int -%}
            {%- if rows -%}
                {%- do counts.update({relation.schema ~ '.' ~ relation.identifier: rows}) -%}
                {%- do statements.append([relation, table, found]) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for export in plan.exports -%}
        {%- set rows = lakebed.rows_in_export(export, keys, plan.key_type) -%}
        {%- if rows -%}{%- do counts.update({export.name: rows}) -%}{%- endif -%}
    {%- endfor -%}
    {%- set refused = lakebed.refused_records(plan, keys) -%}
    {%- if refused.rows -%}{%- do counts.update({refused.name: refused.rows}) -%}{%- endif -%}
    {%- set failures = lakebed.stored_failures(plan, keys) -%}
    {%- for each in failures if each.rows -%}{%- do counts.update({each.relation.schema ~ '.' ~ each.relation.identifier: each.rows}) -%}{%- endfor -%}
    {%- set exists = load_relation(lakebed.erasures()) is not none -%}
    {%- set hashes = "subject = " ~ lakebed.text_literal(plan.subject) ~ " and subject_hash in ('" ~ plan.hashes | join("', '") ~ "')" -%}
    {%- set known = exists and run_query("select count(*) from " ~ lakebed.erasures() ~ " where " ~ hashes).rows[0][0] | int > 0 -%}
    {%- if not counts and not plan.file_count and not known -%}
        {{ exceptions.raise_compiler_error("Lakebed: no table and no landing file has such a " ~ plan.subject ~ ". Nothing was erased.") }}
    {%- endif -%}
    {%- if not dry_run -%}
        {%- do lakebed.create_erasures() -%}
        {#- The subjects are suppressed before, or with, their rows: nothing that runs beside brings them back. -#}
        {%- set unless_known = " where not exists (select 1 from " ~ lakebed.erasures() ~ " as e where e.state = 'started' and e.subject = " ~ lakebed.text_literal(plan.subject) ~ " and e.subject_hash = new.subject_hash)" -%}
        {%- do run_query("insert into " ~ lakebed.erasures() ~ " select '" ~ plan.request_id ~ "', 'started', " ~ lakebed.text_literal(plan.subject) ~ ", new.subject_hash, '" ~ plan.key_id ~ "', " ~ lakebed.text_literal(tojson(counts)) ~ ", " ~ counts.values() | sum ~ ", " ~ plan.file_count ~ ", " ~ lakebed.as_of() ~ " from (values ('" ~ plan.hashes | join("'), ('") ~ "')) as new (subject_hash)" ~ (unless_known if not counts and not plan.file_count else "")) -%}
        {%- do lakebed.suppress_records(plan) -%}
        {%- for relation, table, found in statements -%}
            {%- do lakebed.erase_from(relation, table, found) -%}
        {%- endfor -%}
        {%- if refused.rows -%}{%- do run_query(refused.delete) -%}{%- endif -%}
        {%- for each in failures -%}{%- do lakebed.drop_with_files(each.relation) -%}{%- endfor -%}
        {%- do lakebed.know_rewritten_files(plan.files) -%}
        {%- do lakebed.commit() -%}
    {%- endif -%}
    {%- do print('LAKEBED ' ~ tojson({'tables': counts, 'known': known})) -%}
{% endmacro %}

{#- Deletes or anonymises the rows of one table. -#}
{% macro erase_from(relation, table, found) %}
    {%- if table.delete -%}
        {%- do run_query('delete from ' ~ relation ~ ' as t where ' ~ found.theirs ~ ' or ' ~ found.lost) -%}
    {%- else -%}
        {%- do run_query('delete from ' ~ relation ~ ' as t where ' ~ found.lost) -%}
        {%- set changes = lakebed.erased_values(table, adapter.get_columns_in_relation(relation) | map(attribute='name') | list) -%}
        {%- set assignments = [] -%}
        {%- for column, value in changes.items() -%}{%- do assignments.append(adapter.quote(column) ~ ' = ' ~ value) -%}{%- endfor -%}
        {%- if table.lines_of -%}
            {#- The line as bronze has it by now. -#}
            {%- set bronze = lakebed.lines_relation(table) -%}
            {%- set place = lakebed.same_line() -%}
            {%- do run_query('merge into ' ~ relation ~ ' as t using (select l._batch_id, l._file_name, l._line, l._record from ' ~ bronze ~ ' as l inner join ' ~ relation ~ ' as t on ' ~ place ~ ' where ' ~ found.theirs ~ ') as l on ' ~ place ~ ' and ' ~ found.theirs ~ ' when matched then update set ' ~ assignments | join(', ') ~ ', _record = l._record') -%}
            {#- Rows whose line bronze has no longer (by retention). -#}
            {%- do run_query('update ' ~ relation ~ ' as t set ' ~ assignments | join(', ') ~ ", _record = '' where " ~ found.theirs) -%}
        {%- else -%}
            {%- do run_query('update ' ~ relation ~ ' as t set ' ~ assignments | join(', ') ~ ' where ' ~ found.theirs) -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- What anonymised rows have (alias t) in those of their columns that change: SQL by column. The line of
    a row that has a copy of bronze's comes from there. Arguments: table, its plan; columns, names. -#}
{% macro erased_values(table, columns) %}
    {%- set changes = {} -%}
    {%- for column, value in table['values'].items() if column in columns -%}
        {%- do changes.update({column: lakebed.policy_value(value, table.types.get(column))}) -%}
    {%- endfor -%}
    {%- if table.line -%}
        {%- set line = lakebed.csv_with('t._record', 't._header', table.line.replace) -%}
        {%- do changes.update({'_record': line, '_record_hash': 'md5(' ~ line ~ ')'}) -%}
    {%- endif -%}
    {%- if table.patch -%}
        {#- A tombstone stays one. -#}
        {%- do changes.update({'_record': 'case when t._record is not null then ' ~ lakebed.json_patched('t._record', table.patch) ~ ' end'}) -%}
    {%- endif -%}
    {%- if table.stream and '_raw' in columns -%}
        {#- What was received cannot be changed; the JSON made of it stays. -#}
        {%- do changes.update({'_raw': 'null'}) -%}
    {%- endif -%}
    {%- if table.row_hash and '_row_hash' in columns -%}
        {%- set hashed = [] -%}
        {%- for column in table.row_hash if column in columns -%}{%- do hashed.append(changes.get(column) or 't.' ~ adapter.quote(column)) -%}{%- endfor -%}
        {%- do changes.update({'_row_hash': lakebed.surrogate_key(hashed)}) -%}
    {%- endif -%}
    {{- return(changes) -}}
{% endmacro %}

{#- The bronze table (alias l) whose lines a table (alias t) has copies of, and where they are the same. -#}
{% macro lines_relation(table) %}
    {{- return(api.Relation.create(database=table.lines_of.database or none, schema=table.lines_of.schema, identifier=table.lines_of.identifier)) -}}
{% endmacro %}
{% macro same_line() -%} l._batch_id = t._batch_id and l._file_name = t._file_name and l._line = t._line {%- endmacro %}

{% macro policy_value(value, data_type) -%}
    {%- if value is none -%} cast(null as {{ data_type or dbt.type_string() }})
    {%- elif value is string -%} cast({{ lakebed.text_literal(value) }} as {{ data_type or dbt.type_string() }})
    {%- else -%} cast({{ value }} as {{ data_type or 'bigint' }})
    {%- endif -%}
{%- endmacro %}

{#- Lines that the lake has and the YAML does not declare may carry anything. -#}
{% macro refuse_untagged(table, relation, columns=none) %}
    {%- if not table.delete and not table.line and not table.lines_of and not table.stream -%}
        {%- for column in columns or adapter.get_columns_in_relation(relation) | map(attribute='name') if column in ['_record', '_record_hash', '_row_hash'] and column not in table.columns -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ table.name ~ " has a column " ~ column ~ " that its YAML does not declare: it may carry the subject. Nothing was erased.") }}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{#- The manifest knows the rewritten landing files before they replace the old ones, so that ingestion
    never takes one for a new file. -#}
{% macro know_rewritten_files(files) %}
    {%- set manifests = graph.nodes.values() | selectattr('name', 'equalto', 'bronze_landing__files') | list -%}
    {%- if files and manifests -%}
        {%- set node = manifests[0] -%}
        {%- set manifest = load_relation(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) -%}
        {%- if manifest -%}
            {%- for file in files -%}
                {%- set name = lakebed.text_literal(file.file_name) -%}
                {%- do run_query("insert into " ~ manifest ~ " select source, entity, '" ~ file.file_id ~ "', file_name, path, encoding, header, 'erased', 'rewritten by an erasure', cast(" ~ file.new_bytes ~ " as bigint), rows, cast(" ~ file.new_modified_ns ~ " as bigint), batch_id, ingested_at from " ~ manifest ~ " where file_name = " ~ name ~ " and bytes = " ~ file.bytes ~ " and modified_ns = " ~ file.modified_ns ~ " and not exists (select 1 from " ~ manifest ~ " where file_name = " ~ name ~ " and bytes = " ~ file.new_bytes ~ " and modified_ns = " ~ file.new_modified_ns ~ ")") -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- Closes a request: its files, history and catalogue are free of the subject. -#}
{% macro erase_complete(request_id, subject, key_id, row_count, file_count) %}
    {%- do run_query("insert into " ~ lakebed.erasures() ~ " select '" ~ request_id ~ "', 'complete', " ~ lakebed.text_literal(subject) ~ ", cast(null as " ~ dbt.type_string() ~ "), '" ~ key_id ~ "', cast(null as " ~ dbt.type_string() ~ "), " ~ row_count ~ ", " ~ file_count ~ ", " ~ lakebed.as_of()) -%}
    {%- do lakebed.commit() -%}
    {%- do lakebed.end_work(request_id) -%}
{% endmacro %}
