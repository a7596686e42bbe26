{#- Generic test: the rules that a model's YAML declares (meta.rules) hold for every row of it.
    Arguments: level, `error` (default) or `warn`: which of the rules. -#}
{% test rules_hold(model, level='error') %}
    {%- set name = context.model.attached_node.split('.')[-1] if execute else '' -%}
    {%- set rules = lakebed.model_spec(name).rules | selectattr('severity', 'equalto', level) | list if execute else [] %}
    {%- for rule in rules %}
    select
        '{{ rule.name }}' as broken_rule,
        rows_of_model.*
    from {{ model }} as rows_of_model
    where not ({{ rule.expression }})
    {{ 'union all' if not loop.last }}
    {%- else %}
    select 1 as broken_rule where false
    {%- endfor %}
{% endtest %}
