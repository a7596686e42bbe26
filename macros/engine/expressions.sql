{#- SQL expressions that engines write, or understand, differently. -#}

{#- A string literal that means `value` and nothing else: quotes and backslashes included. A quote
    that is already doubled counts as one, as people who wrote patterns for other packages had to.
    Arguments: value, anything with a text. Returns: SQL literal. Engines: DuckDB, Spark.
    Example: {{ lakebed.text_literal("O'Hara") }} -#}
{% macro text_literal(value) %}
    {{- return(adapter.dispatch('text_literal', 'lakebed')(value | string | replace("''", "'"))) -}}
{% endmacro %}
{% macro default__text_literal(value) -%} '{{ value | replace("'", "''") }}' {%- endmacro %}
{#- Spark reads escapes in literals, and 'it''s' as 'its' before version 4. -#}
{% macro spark__text_literal(value) -%} '{{ value | replace("\\", "\\\\") | replace("'", "\\'") }}' {%- endmacro %}

{#- Whether a regular expression matches anywhere in a text; an empty match is a match.
    Arguments: text, a SQL expression (numbers and dates are matched as text); pattern, a string;
    flags: i (ignore case), m (^ and $ at lines), s (. matches newlines); c, e and p are accepted
    and are the default. Returns: boolean, NULL for NULL. Engines: DuckDB (RE2), Spark (Java, which is
    told to mean the same); no lookaround or back references, which RE2 lacks.
    Example: {{ lakebed.matches_regex('email', '^[^@]+@[^@]+$', 'i') }} -#}
{% macro matches_regex(text, pattern, flags='') %}
    {%- set inline = [] -%}
    {%- for flag in flags or '' -%}
        {%- if flag in 'ims' and flag not in inline -%}
            {%- do inline.append(flag) -%}
        {%- elif flag not in 'imscep' and execute -%}
            {%- do exceptions.raise_compiler_error("Regex flag '" ~ flag ~ "' is unknown: use i, m, s, c, e or p.") -%}
        {%- endif -%}
    {%- endfor -%}
    {{- return(adapter.dispatch('matches_regex', 'lakebed')(text, pattern, inline | join)) -}}
{% endmacro %}
{% macro default__matches_regex(text, pattern, flags) -%}
    regexp_matches(cast({{ text }} as varchar), {{ lakebed.text_literal(('(?' ~ flags ~ ')' if flags else '') ~ pattern) | trim }})
{%- endmacro %}
{% macro spark__matches_regex(text, pattern, flags) -%}
    (cast({{ text }} as string) rlike {{ lakebed.text_literal(lakebed.java_regex(pattern, flags)) | trim }})
{%- endmacro %}

{#- A pattern of RE2 with the same meaning in Java: a line ends at a newline only (d), case is
    Unicode's (u), and $ is the end of the text, not also the place before a last newline. -#}
{% macro java_regex(pattern, flags) %}
    {%- set ns = namespace(out='', escaped=false, class=false) -%}
    {%- for letter in pattern | string -%}
        {%- set end = letter == '$' and not ns.escaped and not ns.class and 'm' not in flags -%}
        {%- set ns.out = ns.out ~ ('\\z' if end else letter) -%}
        {%- if ns.escaped -%}
            {%- set ns.escaped = false -%}
        {%- else -%}
            {%- set ns.escaped = letter == '\\' -%}
            {%- if letter in '[]' -%}{%- set ns.class = letter == '[' -%}{%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set dialect = ('$' in pattern or '.' in pattern or '^' in pattern) -%}
    {%- set all = flags ~ ('d' if dialect else '') ~ ('u' if 'i' in flags else '') -%}
    {{- return(('(?' ~ all ~ ')' if all else '') ~ ns.out) -}}
{% endmacro %}

{#- Whether a text is like a pattern: % any characters, _ one; \%, \_ and \\ themselves. Any
    other backslash is a backslash. Arguments: text, a SQL expression; pattern, a string.
    Returns: boolean, NULL for NULL. Engines: DuckDB, Spark.
    Example: {{ lakebed.matches_like('code', 'A\_%') }} -#}
{% macro matches_like(text, pattern) %}
    {#- Every lone backslash is doubled, so that what the engines see is always well formed. -#}
    {%- set pieces = [] -%}
    {%- for piece in (pattern | string).split('\\\\') -%}
        {%- do pieces.append(modules.re.sub('\\\\(?![%_])', '\\\\\\\\', piece)) -%}
    {%- endfor -%}
    {%- set escaped = pieces | join('\\\\') -%}
    {{- return(adapter.dispatch('matches_like', 'lakebed')(text, lakebed.text_literal(escaped) | trim)) -}}
{% endmacro %}
{% macro default__matches_like(text, literal) -%}
    (cast({{ text }} as varchar) like {{ literal }} escape '\')
{%- endmacro %}
{% macro spark__matches_like(text, literal) -%}
    (cast({{ text }} as string) like {{ literal }})
{%- endmacro %}

{#- Quantile of a number, interpolated between neighbours: an aggregate, so it may be grouped.
    In double, because DuckDB rounds a decimal's quantile to the decimal's scale.
    Arguments: value, a SQL expression; fraction, 0 to 1. Returns: double. Engines: DuckDB, Spark.
    Example: {{ lakebed.percentile('price', 0.5) }} -#}
{% macro percentile(value, fraction) %}
    {{- return(adapter.dispatch('percentile', 'lakebed')(value, fraction)) -}}
{% endmacro %}
{% macro default__percentile(value, fraction) -%} quantile_cont(cast({{ value }} as double), {{ fraction }}) {%- endmacro %}
{% macro spark__percentile(value, fraction) -%} percentile(cast({{ value }} as double), {{ fraction }}) {%- endmacro %}

{#- A moment `number` dateparts later. Arguments: part ('day', 'hour', 'month', ...); number and
    moment, SQL expressions. Returns: timestamp. Engines: DuckDB, Spark.
    Example: {{ lakebed.add_dateparts('day', -7, lakebed.as_of()) }} -#}
{% macro add_dateparts(part, number, moment) %}
    {{- return(adapter.dispatch('add_dateparts', 'lakebed')(part, number, moment)) -}}
{% endmacro %}
{% macro default__add_dateparts(part, number, moment) -%}
    (cast({{ moment }} as timestamp) + ({{ number }}) * interval 1 {{ part }})
{%- endmacro %}
{% macro spark__add_dateparts(part, number, moment) -%}
    timestampadd({{ part }}, cast({{ number }} as int), cast({{ moment }} as timestamp))
{%- endmacro %}

{#- Start of a moment's datepart (weeks begin on Monday). Returns: timestamp. Engines: DuckDB, Spark.
    Example: {{ lakebed.start_of_datepart('week', 'sold_at') }} -#}
{% macro start_of_datepart(part, moment) -%}
    cast(date_trunc('{{ part }}', cast({{ moment }} as timestamp)) as timestamp)
{%- endmacro %}

{#- Number of dateparts from one start of a datepart to another. Returns: bigint. Engines: DuckDB, Spark.
    Example: {{ lakebed.dateparts_between('day', 'first_day', 'last_day') }} -#}
{% macro dateparts_between(part, first, last) %}
    {{- return(adapter.dispatch('dateparts_between', 'lakebed')(part, first, last)) -}}
{% endmacro %}
{% macro default__dateparts_between(part, first, last) -%} date_diff('{{ part }}', {{ first }}, {{ last }}) {%- endmacro %}
{% macro spark__dateparts_between(part, first, last) -%} timestampdiff({{ part }}, {{ first }}, {{ last }}) {%- endmacro %}

{#- One row for each of 0, step, 2 * step, ... below count; used in a select list.
    Arguments: count, a SQL expression; step, a whole number. Engines: DuckDB, Spark.
    Example: select {{ lakebed.steps_below('days', 7) }} as day_number from bounds -#}
{% macro steps_below(count, step=1) %}
    {{- return(adapter.dispatch('steps_below', 'lakebed')(count, step)) -}}
{% endmacro %}
{% macro default__steps_below(count, step) -%} unnest(range(0, {{ count }}, {{ step }})) {%- endmacro %}
{#- sequence() fails when it would be empty. -#}
{% macro spark__steps_below(count, step) -%}
    explode(case when {{ count }} > 0 then sequence(0, cast({{ count }} - 1 as int), {{ step }}) end)
{%- endmacro %}

{#- One name for a data type whatever the engine calls it: 'varchar', 'text' and 'string' are one.
    Arguments: name, as a contract or the engine writes it. Returns: upper-case string, for
    comparing only. Engines: DuckDB, Spark.
    Example: {{ lakebed.type_name('integer') == lakebed.type_name('int') }} -#}
{% macro type_name(name) %}
    {%- set same = {
        'TEXT': 'STRING', 'VARCHAR': 'STRING', 'CHAR': 'STRING', 'BPCHAR': 'STRING',
        'CHARACTER VARYING': 'STRING', 'INTEGER': 'INT', 'INT4': 'INT', 'SIGNED': 'INT',
        'INT8': 'BIGINT', 'LONG': 'BIGINT', 'INT2': 'SMALLINT', 'SHORT': 'SMALLINT',
        'INT1': 'TINYINT', 'BYTE': 'TINYINT', 'FLOAT8': 'DOUBLE', 'DOUBLE PRECISION': 'DOUBLE',
        'FLOAT4': 'FLOAT', 'REAL': 'FLOAT', 'BOOL': 'BOOLEAN', 'LOGICAL': 'BOOLEAN',
        'BLOB': 'BINARY', 'BYTEA': 'BINARY', 'VARBINARY': 'BINARY', 'DATETIME': 'TIMESTAMP',
    } -%}
    {%- set text = name | string | upper | trim | replace(', ', ',') -%}
    {%- set plain = 'DECIMAL' ~ text[7:] if text.startswith('NUMERIC') else text -%}
    {{- return(same.get(plain, plain)) -}}
{% endmacro %}
