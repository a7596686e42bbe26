{#- The terms of a SQL ordering, with what it leaves open filled in: ascending, NULLs last (the
    engines' own defaults differ). Arguments: order_by, a text or a list of texts, none.
    Returns: [{expression, direction, nulls}]. Engines: all.
    Example: order_terms("a desc, concat(b, ',')") -#}
{% macro order_terms(order_by) %}
    {%- set found = [] -%}
    {%- for text in ([order_by] if order_by is string else order_by or []) -%}
        {%- set state = namespace(depth=0, quote='', start=0) -%}
        {%- for sign in text ~ ',' -%}
            {%- if state.quote -%}
                {%- if sign == state.quote %}{% set state.quote = '' %}{% endif -%}
            {%- elif sign in ["'", '"', '`'] -%}{%- set state.quote = sign -%}
            {%- elif sign in '([{' -%}{%- set state.depth = state.depth + 1 -%}
            {%- elif sign in ')]}' -%}{%- set state.depth = state.depth - 1 -%}
            {%- elif sign == ',' and state.depth == 0 -%}
                {%- set parts = modules.re.match('(?is)^\\s*(.+?)(?:\\s+(asc|desc))?(?:\\s+nulls\\s+(first|last))?\\s*$', text[state.start:loop.index0]) -%}
                {%- if not parts -%}
                    {{ exceptions.raise_compiler_error("Lakebed: '" ~ text ~ "' is not an ordering; write for example 'updated_at desc, id'.") }}
                {%- endif -%}
                {%- do found.append({'expression': parts.group(1), 'direction': (parts.group(2) or 'asc') | lower, 'nulls': (parts.group(3) or 'last') | lower}) -%}
                {%- set state.start = loop.index0 + 1 -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if state.start <= text | length -%}
            {{ exceptions.raise_compiler_error("Lakebed: the ordering '" ~ text ~ "' has an open quote or bracket.") }}
        {%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Terms from order_terms as SQL. Returns: a list of texts. Engines: all. -#}
{% macro ordering(orders) %}
    {%- set found = [] -%}
    {%- for term in orders %}{% do found.append(term.expression ~ ' ' ~ term.direction ~ ' nulls ' ~ term.nulls) %}{% endfor -%}
    {{- return(found) -}}
{% endmacro %}
