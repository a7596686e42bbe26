{#- What a model's YAML declares, looked up by name: its columns and its validity rules.
    One declaration serves parsing, silver, quarantine and tests.
    Arguments: name, a model's name (string).
    Returns: {columns: [{name, data_type, names, formats, required}], rules: [{name, expression,
    severity}]}; columns that Lakebed adds and those marked `meta: {derived: true}` do not come
    from the file. Empty while dbt parses. An unknown model is a compiler error. -#}
{% macro model_spec(name) %}
    {%- set spec = {'columns': [], 'rules': []} -%}
    {%- if execute -%}
        {%- set found = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | selectattr('name', 'equalto', name) | list -%}
        {%- if not found -%}
            {{ exceptions.raise_compiler_error("Lakebed: there is no model '" ~ name ~ "' whose rules could be read.") }}
        {%- endif -%}
        {%- for column in found[0].columns.values() -%}
            {%- set meta = column.config.meta or column.meta or {} -%}
            {%- if not column.name.startswith('_') and column.name not in ['ingested_at', 'broken_rules'] and not meta.get('derived') -%}
                {%- if not column.data_type -%}
                    {{ exceptions.raise_compiler_error("Lakebed: column '" ~ column.name ~ "' of model '" ~ name ~ "' needs a data_type.") }}
                {%- endif -%}
                {%- do spec.columns.append({
                    'name': column.name,
                    'data_type': column.data_type,
                    'names': [column.name] + meta.get('aliases', []),
                    'formats': meta.get('formats', []),
                    'required': column.constraints | selectattr('type', 'equalto', 'not_null') | list | length > 0,
                }) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- set rules = (found[0].config.meta or {}).get('rules', []) -%}
        {%- for rule in rules -%}
            {%- if not rule.name or not rule.expression or rule.get('severity', 'error') not in ['error', 'warn'] -%}
                {{ exceptions.raise_compiler_error("Lakebed: a rule of model '" ~ name ~ "' needs name, expression and severity error or warn: " ~ rule) }}
            {%- endif -%}
            {%- do spec.rules.append({'name': rule.name, 'expression': rule.expression, 'severity': rule.get('severity', 'error')}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{- return(spec) -}}
{% endmacro %}

{#- The names of the error rules that a row breaks, comma separated, NULL when it breaks none.
    A rule that is unknown (NULL) holds: what must not be null says so by a constraint.
    Arguments: rules as in model_spec; more, a list of SQL expressions that give a name or NULL.
    Returns: SQL expression of type string. Engines: DuckDB, Spark. -#}
{% macro broken_rules(rules, more=[]) -%}
    {%- set parts = [] + more -%}
    {%- for rule in rules if rule.severity == 'error' -%}
        {%- do parts.append("case when not (" ~ rule.expression ~ ") then '" ~ rule.name ~ "' end") -%}
    {%- endfor -%}
    {%- if parts -%}
    nullif(concat_ws(',', {{ parts | join(',\n            ') }}), '')
    {%- else -%}
    cast(null as {{ dbt.type_string() }})
    {%- endif -%}
{%- endmacro %}
