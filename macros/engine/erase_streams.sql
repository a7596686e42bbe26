{#- What `lakebed stream` and its like took in: their bronze tables are sources of dbt, and what they refused
    is in ops.dlq. -#}

{#- The refused records that name a subject in any part, whatever they were meant for; a policy could say
    nothing else about what cannot be read. Refuses a stream's table that is no source and names a
    subject. Returns: {name, rows, delete}. -#}
{% macro refused_records(plan, keys) %}
    {%- for name in lakebed.record_tables() if name not in plan.declared -%}
        {%- set table = api.Relation.create(database=target.get('database'), schema=name.split('.')[0], identifier=name.split('.')[1]) -%}
        {%- if run_query('select 1 from ' ~ table ~ ' as t where ' ~ lakebed.record_names_any(['t._key', 't._record', 't._headers'], keys, plan.key_type) ~ ' limit 1').rows -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ ", which a stream writes, names the " ~ plan.subject ~ " and has no policy: declare it as a source of dbt (docs/erasure.md). Nothing was erased.") }}
        {%- endif -%}
    {%- endfor -%}
    {%- set dlq = load_relation(lakebed.dlq_relation()) -%}
    {%- if not dlq -%}{{- return({'rows': 0}) -}}{%- endif -%}
    {%- set where = ' where ' ~ lakebed.names_refused(keys, plan.key_type) -%}
    {{- return({'name': 'ops.dlq', 'rows': run_query('select count(*) from ' ~ dlq ~ where).rows[0][0] | int, 'delete': 'delete from ' ~ dlq ~ where}) -}}
{% endmacro %}

{#- Whether a refused record names one of the keys. Arguments: keys, texts; data_type, of a key. Returns:
    SQL condition. -#}
{% macro names_refused(keys, data_type) -%}
    {%- set counted = [] -%}
    {%- for key in keys -%}{%- do counted.extend(lakebed.counted_texts(key)) -%}{%- endfor -%}
    {{ lakebed.record_names_any(['record_key', 'record_value', 'headers', 'reason'], keys, data_type) }} or {{ lakebed.bytes_hold_any('record_value', counted) }} or {{ lakebed.bytes_hold_any('record_key', counted) }}
{%- endmacro %}

{#- Where sinks write what they refuse, whatever schema a project has for its own. -#}
{% macro dlq_relation() -%}
    {{- return(api.Relation.create(database=target.get('database'), schema='ops', identifier='dlq')) -}}
{%- endmacro %}

{#- The bronze tables of streams, `schema.table`. -#}
{% macro record_tables() %}{{- return(adapter.dispatch('record_tables', 'lakebed')()) -}}{% endmacro %}

{% macro duckdb__record_tables() %}
    {{- return(run_query("select schema_name || '.' || table_name from duckdb_columns() where database_name = " ~ lakebed.text_literal(target.database) ~ " and column_name in ('_topic', '_offset', '_record') group by all having count(*) = 3 order by 1").columns[0].values()) -}}
{% endmacro %}

{% macro spark__record_tables() %}
    {%- set found = [] -%}
    {#- All that a sink writes is there; Spark has no list of all columns. -#}
    {%- for name in lakebed.tables_like('bronze', '*') -%}
        {%- set columns = run_query('show columns in bronze.' ~ adapter.quote(name)).columns[0].values() -%}
        {%- if '_topic' in columns and '_offset' in columns and '_record' in columns -%}{%- do found.append('bronze.' ~ name) -%}{%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Names of tables in a schema of Spark, which may not be there. -#}
{% macro tables_like(schema, pattern) %}
    {%- if not run_query("show schemas like '" ~ schema ~ "'").rows -%}{{- return([]) -}}{%- endif -%}
    {{- return(run_query('show tables in ' ~ schema ~ " like '" ~ pattern ~ "'").columns['tableName'].values() | sort) -}}
{% endmacro %}

{#- How a text stands in Avro and in Protobuf: after its length in bytes, seven bits to a byte; Avro
    writes twice the length. Returns: hexadecimal texts. -#}
{% macro counted_texts(text) -%}
    {%- set bytes, found = text.encode('utf-8'), [] -%}
    {%- for length in [bytes | length, 2 * (bytes | length)] -%}
        {%- set head = '%02X' % length if length < 128 else '%02X%02X' % (length % 128 + 128, length // 128) -%}
        {%- do found.append(head ~ bytes.hex() | upper) -%}
    {%- endfor -%}
    {{- return(found) -}}
{%- endmacro %}

{#- Whether bytes hold any of some others, given in hexadecimal. -#}
{% macro bytes_hold_any(column, texts) %}{{- return(adapter.dispatch('bytes_hold_any', 'lakebed')(column, texts)) -}}{% endmacro %}
{% macro duckdb__bytes_hold_any(column, texts) -%}
    regexp_matches(hex({{ column }}), '^(..)*({{ texts | join('|') }})')
{%- endmacro %}
{% macro spark__bytes_hold_any(column, texts) -%}
    exists(array('{{ texts | join("', '") }}'), bytes -> contains({{ column }}, unhex(bytes)))
{%- endmacro %}

{#- Whether the key of a subject is any part of some columns: text, or bytes that may be text.
    Arguments: columns; keys, texts; data_type, of a key. Returns: SQL condition. -#}
{% macro record_names_any(columns, keys, data_type) -%}
    {%- set conditions, texts = [], [] -%}
    {%- for key in keys -%}{%- do texts.append(lakebed.text_literal(key)) -%}{%- endfor -%}
    {%- set part = lakebed.normal_key('part', data_type) ~ ' in (' ~ texts | join(', ') ~ ')' -%}
    {%- for column in columns -%}
        {%- set text = lakebed.readable_text(column) -%}
        {%- do conditions.append(lakebed.any_part(text, part, "[\\[\\],;|\\s\"'{}:<>=&\\\\]")) -%}
        {#- One that is split above. -#}
        {%- for key in keys if modules.re.search('[^A-Za-z0-9_.@+-]', key) -%}{%- do conditions.append('contains(' ~ text ~ ', ' ~ lakebed.text_literal(key) ~ ')') -%}{%- endfor -%}
    {%- endfor -%}
    ({{ conditions | join(' or ') }})
{%- endmacro %}

{#- A column as text: what is no text in its bytes is blank, and NULL is empty. -#}
{% macro readable_text(column) %}{{- return(adapter.dispatch('readable_text', 'lakebed')(column)) -}}{% endmacro %}
{% macro duckdb__readable_text(column) -%}
    coalesce(case when typeof({{ column }}) = 'BLOB' then coalesce(try(decode(cast({{ column }} as blob))), regexp_replace(cast({{ column }} as varchar), '\\x[0-9A-F]{2}', ' ', 'g')) else cast({{ column }} as varchar) end, '')
{%- endmacro %}
{% macro spark__readable_text(column) -%}
    coalesce(translate(make_valid_utf8(cast({{ column }} as string)), '\ufffd', ' '), '')
{%- endmacro %}

{#- A field of JSON as text, by a path such as user.id; NULL when it is not there, or this is no JSON. -#}
{% macro json_field(column, path) %}{{- return(adapter.dispatch('json_field', 'lakebed')(column, path)) -}}{% endmacro %}
{% macro duckdb__json_field(column, path) -%}
    case when json_valid({{ column }}) then json_extract_string({{ column }}, '$."{{ path | replace('.', '"."') }}"') end
{%- endmacro %}
{#- It would read what is cut off as far as it goes. -#}
{% macro spark__json_field(column, path) -%}
    case when {{ lakebed.is_json(column) }} then get_json_object(cast({{ column }} as string), "$['{{ path | replace('.', "']['") }}']") end
{%- endmacro %}

{% macro is_json(column) %}{{- return(adapter.dispatch('is_json', 'lakebed')(column)) -}}{% endmacro %}
{% macro duckdb__is_json(column) -%} json_valid({{ column }}) {%- endmacro %}
{#- A parser of Spark's stops after the first value: what follows it would have to go on with `]` and with `}`. -#}
{% macro spark__is_json(column) -%}
    (try_parse_json(concat('[', cast({{ column }} as string), ']')) is not null and try_parse_json(concat('{"one":', cast({{ column }} as string), '}')) is not null)
{%- endmacro %}

{#- Whether an object of JSON has a name twice: readers differ in which of the values they take.
    Arguments: column; parents, paths of objects to look at, '' for the whole. -#}
{% macro json_name_twice(column, parents) %}{{- return(adapter.dispatch('json_name_twice', 'lakebed')(column, parents)) -}}{% endmacro %}
{% macro duckdb__json_name_twice(column, parents) -%}
    {%- set found = [] -%}
    {%- for parent in parents -%}
        {%- set names = 'json_keys(' ~ column ~ ", '$" ~ ('."' ~ parent | replace('.', '"."') ~ '"' if parent) ~ "')" -%}
        {%- do found.append('coalesce(len(' ~ names ~ ') <> len(list_distinct(' ~ names ~ ')), false)') -%}
    {%- endfor -%}
    case when json_valid({{ column }}) then {{ found | join(' or ') }} else false end
{%- endmacro %}
{#- Such a text is no JSON to Spark's variants, and so to is_json. -#}
{% macro spark__json_name_twice(column, parents) -%} false {%- endmacro %}

{#- The dotted paths of what a patch changes. -#}
{% macro paths_of(patch) %}
    {%- set found = [] -%}
    {%- for name, value in patch.items() -%}
        {%- do found.append(name) -%}
        {%- if value is mapping -%}{%- for path in lakebed.paths_of(value) -%}{%- do found.append(name ~ '.' ~ path) -%}{%- endfor -%}{%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- The objects that dotted paths lead through, the whole first. -#}
{% macro parents_of(paths) %}
    {%- set found = [''] -%}
    {%- for path in paths -%}
        {%- set names = path.split('.')[:-1] -%}
        {%- for depth in range(1, names | length + 1) if names[:depth] | join('.') not in found -%}{%- do found.append(names[:depth] | join('.')) -%}{%- endfor -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- JSON with another one merged into it (RFC 7396): null takes a field away.
    Arguments: json, SQL expression of text that is JSON; patch, a dictionary. Returns: SQL expression. -#}
{% macro json_patched(json, patch) %}{{- return(adapter.dispatch('json_patched', 'lakebed')(json, patch)) -}}{% endmacro %}
{% macro duckdb__json_patched(json, patch) -%}
    cast(json_merge_patch({{ json }}, {{ lakebed.text_literal(tojson(patch)) }}) as varchar)
{%- endmacro %}
{#- Numbers stay exact up to 38 digits. -#}
{% macro spark__json_patched(json, patch) -%}
    {%- set fields = "coalesce(try_variant_get(try_parse_json(" ~ json ~ "), '$', 'map<string, variant>'), cast(map() as map<string, variant>))" -%}
    {%- set names, added = [], [] -%}
    {%- for name, value in patch.items() -%}
        {%- do names.append(lakebed.text_literal(name)) -%}
        {%- if value is mapping -%}
            {%- do added.append(names[-1] ~ ', parse_json(' ~ lakebed.json_patched('to_json(try_element_at(' ~ fields ~ ', ' ~ names[-1] ~ '))', value) ~ ')') -%}
        {%- elif value is not none -%}
            {%- do added.append(names[-1] ~ ', parse_json(' ~ lakebed.text_literal(tojson(value)) ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set left = 'map_filter(' ~ fields ~ ', (name, value) -> name not in (' ~ names | join(', ') ~ '))' -%}
    to_json({{ 'map_concat(' ~ left ~ ', map(' ~ added | join(', ') ~ '))' if added else left }})
{%- endmacro %}

{#- From now on the sink of every stream keeps the subjects out (python/lakebed/erase/suppress.py). -#}
{% macro suppress_records(plan) %}
    {%- set rules, text = lakebed.ops_relation('erasure_rules'), dbt.type_string() -%}
    {%- do run_query('create table if not exists ' ~ rules ~ ' (table_name ' ~ text ~ ', subject ' ~ text ~ ', rule ' ~ text ~ ')' ~ lakebed.using_format()) -%}
    {%- set found = {'ops.dlq': {'data_type': plan.key_type, 'keys': [], 'delete': true, 'patch': none, 'columns': {}}} -%}
    {%- for table in plan.tables if table.stream -%}
        {%- do found.update({table.schema ~ '.' ~ table.identifier: {'data_type': plan.key_type, 'keys': table['keys'], 'delete': table.delete, 'patch': table.patch, 'columns': table['values']}}) -%}
    {%- endfor -%}
    {%- set values = [] -%}
    {%- for name, rule in found.items() -%}
        {%- do values.append('(' ~ lakebed.text_literal(name) ~ ', ' ~ lakebed.text_literal(plan.subject) ~ ', ' ~ lakebed.text_literal(tojson(rule)) ~ ')') -%}
    {%- endfor -%}
    {%- do lakebed.replace_rules(rules, plan.subject, values | join(', ')) -%}
{% endmacro %}

{#- The rules of a subject, all at once: no stream may find none of them between two statements. -#}
{% macro replace_rules(rules, subject, values) %}{{- return(adapter.dispatch('replace_rules', 'lakebed')(rules, subject, values)) -}}{% endmacro %}

{% macro duckdb__replace_rules(rules, subject, values) %}
    {%- do run_query('delete from ' ~ rules ~ ' where subject = ' ~ lakebed.text_literal(subject)) -%}
    {%- do run_query('insert into ' ~ rules ~ ' values ' ~ values) -%}
{% endmacro %}

{% macro spark__replace_rules(rules, subject, values) %}
    {%- do run_query('merge into ' ~ rules ~ ' as held using (select * from values ' ~ values ~ ' as t (table_name, subject, rule)) as new on held.table_name = new.table_name and held.subject = new.subject when matched then update set rule = new.rule when not matched then insert (table_name, subject, rule) values (new.table_name, new.subject, new.rule) when not matched by source and held.subject = ' ~ lakebed.text_literal(subject) ~ ' then delete') -%}
{% endmacro %}
