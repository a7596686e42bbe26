{#- What `lakebed stream` and `lakebed webhook` took in: their bronze tables are sources of dbt, and what
    they refused is in ops.dlq. On Spark it cannot be erased yet, and a lake that streams write to is refused. -#}

{#- The refused records that name a subject in any part, whatever they were meant for; a policy could say
    nothing else about what cannot be read. Refuses a stream's table that is no source and names a
    subject. Returns: {name, rows, delete}. -#}
{% macro refused_records(plan, keys) %}{{- return(adapter.dispatch('refused_records', 'lakebed')(plan, keys)) -}}{% endmacro %}

{% macro spark__refused_records(plan, keys) %}
    {%- if load_relation(lakebed.ops_relation('dlq')) -%}
        {{ exceptions.raise_compiler_error("Lakebed: streams write to this lake (" ~ lakebed.ops_relation('dlq') ~ " is there), and what they took in can be erased on DuckLake only so far (docs/erasure.md). Nothing was erased.") }}
    {%- endif -%}
    {{- return({'rows': 0}) -}}
{% endmacro %}

{% macro duckdb__refused_records(plan, keys) %}
    {%- set streams = run_query("select schema_name || '.' || table_name from duckdb_columns() where database_name = " ~ lakebed.text_literal(target.database) ~ " and column_name in ('_topic', '_offset', '_record') group by all having count(*) = 3 order by 1").columns[0].values() -%}
    {%- for name in streams if name not in plan.declared -%}
        {%- set table = api.Relation.create(database=target.database, schema=name.split('.')[0], identifier=name.split('.')[1]) -%}
        {%- if run_query('select 1 from ' ~ table ~ ' as t where ' ~ lakebed.record_names_any(['t._key', 't._record', 't._headers'], keys, plan.key_type) ~ ' limit 1').rows -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ ", which a stream writes, names the " ~ plan.subject ~ " and has no policy: declare it as a source of dbt (docs/erasure.md). Nothing was erased.") }}
        {%- endif -%}
    {%- endfor -%}
    {%- set dlq = load_relation(api.Relation.create(database=target.database, schema='ops', identifier='dlq')) -%}
    {%- if not dlq -%}{{- return({'rows': 0}) -}}{%- endif -%}
    {%- set counted = [] -%}
    {%- for key in keys -%}{%- do counted.extend(lakebed.counted_texts(key)) -%}{%- endfor -%}
    {%- set where = ' where ' ~ lakebed.record_names_any(['record_key', 'record_value', 'headers', 'reason'], keys, plan.key_type) ~ " or regexp_matches(hex(record_value), '^(..)*(" ~ counted | join('|') ~ ")')" -%}
    {{- return({'name': 'ops.dlq', 'rows': run_query('select count(*) from ' ~ dlq ~ where).rows[0][0] | int, 'delete': 'delete from ' ~ dlq ~ where}) -}}
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

{#- Whether the key of a subject is any part of some columns: text, or bytes that may be text.
    Arguments: columns; keys, texts; data_type, of a key. Returns: SQL condition. -#}
{% macro record_names_any(columns, keys, data_type) -%}
    {%- set conditions, texts = [], [] -%}
    {%- for key in keys -%}{%- do texts.append(lakebed.text_literal(key)) -%}{%- endfor -%}
    {%- for column in columns -%}
        {%- set text -%}
            coalesce(case when typeof({{ column }}) = 'BLOB' then coalesce(try(decode(cast({{ column }} as blob))), regexp_replace(cast({{ column }} as varchar), '\\x[0-9A-F]{2}', ' ', 'g')) else cast({{ column }} as varchar) end, '')
        {%- endset -%}
        {%- set part -%}
            len(list_filter(string_split_regex({{ text }}, '[\[\],;|\s"''{}:<>=&\\]'), lambda part: {{ lakebed.normal_key('part', data_type) }} in ({{ texts | join(', ') }}))) > 0
        {%- endset -%}
        {%- do conditions.append(part) -%}
        {#- One that is split above. -#}
        {%- for key in keys if modules.re.search('[^A-Za-z0-9_.@+-]', key) -%}{%- do conditions.append('contains(' ~ text ~ ', ' ~ lakebed.text_literal(key) ~ ')') -%}{%- endfor -%}
    {%- endfor -%}
    ({{ conditions | join(' or ') }})
{%- endmacro %}

{#- A field of JSON as text, by a path such as user.id; NULL when it is not there, or this is no JSON. -#}
{% macro json_field(column, path) -%}
    case when json_valid({{ column }}) then json_extract_string({{ column }}, '$."{{ path | replace('.', '"."') }}"') end
{%- endmacro %}

{#- From now on the sink of every stream keeps the subjects out (python/lakebed/erase/suppress.py). -#}
{% macro suppress_records(plan) %}{{- return(adapter.dispatch('suppress_records', 'lakebed')(plan)) -}}{% endmacro %}

{% macro spark__suppress_records(plan) %}{% endmacro %}

{% macro duckdb__suppress_records(plan) %}
    {%- set rules = lakebed.ops_relation('erasure_rules') -%}
    {%- set subject = lakebed.text_literal(plan.subject) -%}
    {%- do run_query('create table if not exists ' ~ rules ~ ' (table_name varchar, subject varchar, rule varchar)') -%}
    {%- do run_query('delete from ' ~ rules ~ ' where subject = ' ~ subject) -%}
    {%- set found = {'ops.dlq': {'data_type': plan.key_type, 'keys': [], 'delete': true, 'patch': none, 'columns': {}}} -%}
    {%- for table in plan.tables if table.stream -%}
        {%- do found.update({table.schema ~ '.' ~ table.identifier: {'data_type': plan.key_type, 'keys': table['keys'], 'delete': table.delete, 'patch': table.patch, 'columns': table['values']}}) -%}
    {%- endfor -%}
    {%- for name, rule in found.items() -%}
        {%- do run_query('insert into ' ~ rules ~ ' values (' ~ lakebed.text_literal(name) ~ ', ' ~ subject ~ ', ' ~ lakebed.text_literal(tojson(rule)) ~ ')') -%}
    {%- endfor -%}
{% endmacro %}
