{#- What `lakebed backfill` asks of the lake, and what it writes down. A backfill has a number of attempts,
    each begins with a tag on its tables: what they were before. Its log is `ops.backfills`, append-only:
    a row a table when it begins, after each step, when it is finished, and when it is undone.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg). -#}
{% macro backfills() -%}
    {{- return(lakebed.ops_relation('backfills')) -}}
{%- endmacro %}

{#- Prints one line of JSON: the log of a backfill, and the tables that are not there.
    Arguments: name of the backfill; tables, a list of {table: schema.table, ...}. -#}
{% macro backfill_facts(name, tables) %}
    {%- if execute -%}
        {%- set missing, log, mine = [], [], [] -%}
        {%- for table in tables -%}
            {%- set parts = table.table.split('.') -%}
            {%- do mine.append('(table_schema = ' ~ lakebed.text_literal(parts[0]) ~ ' and table_name = ' ~ lakebed.text_literal(parts[1]) ~ ')') -%}
            {%- if not load_relation(api.Relation.create(database=target.get('database'), schema=parts[0], identifier=parts[1])) -%}
                {%- do missing.append(table.table) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if load_relation(lakebed.backfills()) -%}
            {%- set text = dbt.type_string() -%}
            {%- for row in run_query('select distinct attempt, event, ' ~ dbt.cast('starts_at', text) ~ ', ' ~ dbt.cast('ends_at', text) ~ ', code from ' ~ lakebed.backfills() ~ ' where backfill = ' ~ lakebed.text_literal(name) ~ ' and (' ~ mine | join(' or ') ~ ') order by 1').rows -%}
                {%- do log.append({'attempt': row[0] | int, 'event': row[1], 'starts_at': row[2], 'ends_at': row[3], 'code': row[4]}) -%}
            {%- endfor -%}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson({'missing': missing, 'log': log})) -%}
    {%- endif -%}
{% endmacro %}

{#- Tags the tables as they are. Killed before its rows are written, it is done again. -#}
{% macro backfill_begin(name, attempt, tag, code, tables, starts_at, ends_at) %}
    {%- if execute -%}
        {%- for table in tables -%}
            {%- set relation = lakebed.stored_table(table.table) -%}
            {%- if lakebed.tagged_version(relation, tag, missing=none) is not none -%}{%- do lakebed.untag(relation, tag) -%}{%- endif -%}
            {%- do lakebed.tag(relation, tag) -%}
        {%- endfor -%}
        {%- set text = dbt.type_string() -%}
        {%- do adapter.create_schema(lakebed.backfills().without_identifier()) -%}
        {%- do run_query('create table if not exists ' ~ lakebed.backfills() ~ ' (backfill ' ~ text ~ ', attempt int, event ' ~ text ~ ', table_schema ' ~ text ~ ', table_name ' ~ text ~ ', starts_at timestamp, ends_at timestamp, code ' ~ text ~ ', rows_before bigint, rows_after bigint, rows_gone bigint, rows_new bigint, recorded_at timestamp)' ~ lakebed.using_format()) -%}
        {%- do lakebed.record_backfill(name, attempt, 'begun', code, tables, starts_at, ends_at, []) -%}
    {%- endif -%}
{% endmacro %}

{#- Compares an interval of each table with what it was before the backfill, writes that down, and
    prints it as one line of JSON: {tables: [{table, before, after, gone, new, outside}]}.
    A row that changed is one gone and one new. Arguments: event, `step`, or `finished`, which looks
    outside of the interval too; `none` compares without writing (a dry run has no tag:
    then before is after). -#}
{% macro backfill_compare(name, attempt, tag, event, code, tables, starts_at, ends_at) %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for table in tables -%}
            {%- set relation = lakebed.stored_table(table.table) -%}
            {%- set within = lakebed.interval_condition(table, starts_at, ends_at) -%}
            {%- if event == 'none' -%}
                {%- set rows = run_query('select count(*) from ' ~ relation ~ ' where ' ~ within).rows[0][0] | int -%}
                {%- do found.append({'table': table.table, 'before': rows, 'after': rows, 'gone': 0, 'new': 0, 'outside': 0}) -%}
            {%- else -%}
                {%- set old = lakebed.table_as_of(relation, tag=tag) -%}
                {%- do found.append(lakebed.interval_difference(relation, old, table.table, within, event == 'finished')) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if event != 'none' -%}
            {%- do lakebed.record_backfill(name, attempt, event, code, tables, starts_at, ends_at, found) -%}
        {%- endif -%}
        {%- do print('LAKEBED ' ~ tojson({'tables': found})) -%}
    {%- endif -%}
{% endmacro %}

{% macro interval_condition(table, starts_at, ends_at) -%}
    {%- set column = adapter.quote(table.event_time) -%}
    {{- return('(' ~ column ~ " >= timestamp '" ~ starts_at ~ "' and " ~ column ~ " < timestamp '" ~ ends_at ~ "')") -}}
{%- endmacro %}

{#- Columns that came or went since are left out of the comparison. -#}
{% macro interval_difference(relation, old, name, within, outside) %}
    {%- set then = get_column_schema_from_query('select * from ' ~ old ~ ' where false') | map(attribute='name') | list -%}
    {%- set both = [] -%}
    {%- for column in adapter.get_columns_in_relation(relation) if column.name in then -%}{%- do both.append(adapter.quote(column.name)) -%}{%- endfor -%}
    {%- set columns = both | join(', ') -%}
    {%- set before = 'select ' ~ columns ~ ' from ' ~ old ~ ' where ' -%}
    {%- set after = 'select ' ~ columns ~ ' from ' ~ relation ~ ' where ' -%}
    {#- Not the opposite of `within`: a row without a time is outside. -#}
    {%- set without = 'not coalesce(' ~ within ~ ', false)' -%}
    {%- set counts = [
        'select count(*) from (' ~ before ~ within ~ ') as b',
        'select count(*) from (' ~ after ~ within ~ ') as a',
        'select count(*) from (' ~ before ~ within ~ ' except all ' ~ after ~ within ~ ') as gone',
        'select count(*) from (' ~ after ~ within ~ ' except all ' ~ before ~ within ~ ') as new',
    ] -%}
    {%- if outside -%}
        {%- do counts.append('select count(*) from (' ~ before ~ without ~ ' except all ' ~ after ~ without ~ ') as out_gone') -%}
        {%- do counts.append('select count(*) from (' ~ after ~ without ~ ' except all ' ~ before ~ without ~ ') as out_new') -%}
    {%- endif -%}
    {%- set row = run_query('select (' ~ counts | join('), (') ~ ')').rows[0] -%}
    {{- return({'table': name, 'before': row[0] | int, 'after': row[1] | int, 'gone': row[2] | int, 'new': row[3] | int, 'outside': (row[4] | int + row[5] | int) if outside else 0}) -}}
{% endmacro %}

{#- Puts an interval of each table back to what it was before the backfill. Again: the same rows. -#}
{% macro backfill_undo(name, attempt, tag, code, tables, starts_at, ends_at) %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for table in tables -%}
            {%- set relation = lakebed.stored_table(table.table) -%}
            {%- set old = lakebed.table_as_of(relation, tag=tag) -%}
            {%- set within = lakebed.interval_condition(table, starts_at, ends_at) -%}
            {%- do lakebed.restore_interval(relation, old, within) -%}
            {%- do found.append(lakebed.interval_difference(relation, old, table.table, within, false)) -%}
        {%- endfor -%}
        {%- do lakebed.record_backfill(name, attempt, 'undone', code, tables, starts_at, ends_at, found) -%}
        {%- do print('LAKEBED ' ~ tojson({'tables': found})) -%}
    {%- endif -%}
{% endmacro %}

{% macro record_backfill(name, attempt, event, code, tables, starts_at, ends_at, found) %}
    {%- set rows = [] -%}
    {%- for table in tables -%}
        {%- set parts = table.table.split('.') -%}
        {%- set counts = (found | selectattr('table', 'equalto', table.table) | list + [{'before': 'null', 'after': 'null', 'gone': 'null', 'new': 'null'}])[0] -%}
        {%- do rows.append(
            '(' ~ lakebed.text_literal(name) ~ ', ' ~ attempt ~ ', ' ~ lakebed.text_literal(event) ~ ', ' ~ lakebed.text_literal(parts[0]) ~ ', ' ~ lakebed.text_literal(parts[1])
            ~ ", timestamp '" ~ starts_at ~ "', timestamp '" ~ ends_at ~ "', " ~ lakebed.text_literal(code)
            ~ ', ' ~ counts.before ~ ', ' ~ counts.after ~ ', ' ~ counts.gone ~ ', ' ~ counts.new ~ ', ' ~ lakebed.as_of() ~ ')'
        ) -%}
    {%- endfor -%}
    {%- do run_query('insert into ' ~ lakebed.backfills() ~ ' values ' ~ rows | join(', ')) -%}
    {%- do lakebed.commit() -%}
{% endmacro %}
