{#- Few files of many, of a DuckLake; of the other formats see storage_delta.sql, storage_iceberg.sql. -#}

{% macro compact(relation, where, target_mb, alone=false) %}{{- return(adapter.dispatch('compact', 'lakebed')(relation, where, target_mb, alone)) -}}{% endmacro %}

{#- In a catalogue that several processes share, a small change of rows in files is kept in the catalogue
    itself ('inlined'), and DuckLake 1.5.5 does not see it when it compacts the same table at that moment:
    rows come back or are lost (docs/decisions/0010). So there a table that
    has inlined rows is compacted only when nobody else writes. -#}
{% macro check_inlined(relation, alone) %}
    {%- set database = lakebed.text_literal(relation.database) -%}
    {%- if lakebed.has_shared_catalogue(relation.database) -%}
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
    {%- if lakebed.has_shared_catalogue(database) -%}
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
