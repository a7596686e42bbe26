{#- The surrogate key of every dimension's unknown member: what a fact points to when the
    dimension does not know its natural key. Returns: SQL expression of type string. -#}
{% macro unknown_key() -%} '-1' {%- endmacro %}
