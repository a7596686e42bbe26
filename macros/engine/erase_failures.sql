{#- Rows that failed a test and that dbt has stored (`store_failures`): copies of whatever the test looked at,
    in tables without a word of YAML. An erasure drops them all: the next run of the tests makes them again. -#}

{#- Arguments: plan, of `lakebed erase`: its `tests` say where tests store, its `tables` how columns with keys
    are called; keys. Returns: a list of {relation, rows}: each table, and how many rows name a subject. A number
    is somebody's key only in a column of such a name. -#}
{% macro stored_failures(plan, keys) %}
    {%- set texts, named, found = [], [], [] -%}
    {%- for key in keys -%}{%- do texts.append(lakebed.text_literal(key)) -%}{%- endfor -%}
    {%- for table in plan.tables -%}{%- do named.extend(table['keys'] | map(attribute='name')) -%}{%- endfor -%}
    {%- for place in plan.tests -%}
        {#- A test that was renamed leaves its table behind; in dbt's own schema there is nothing else. -#}
        {%- set all = place.schema.endswith('dbt_test__audit') -%}
        {%- for name in lakebed.tables_in(place.database, place.schema) if name | lower not in place.others and (all or name | lower in place.identifiers) -%}
            {%- set relation = api.Relation.create(database=place.database or none, schema=place.schema, identifier=name, type='table') -%}
            {%- set theirs = ['false'] -%}
            {%- for column in adapter.get_columns_in_relation(relation) if column.name in named or plan.key_type != 'bigint' -%}
                {%- do theirs.append(lakebed.any_part(lakebed.to_text(adapter.quote(column.name)), 'part in (' ~ texts | join(', ') ~ ')')) -%}
            {%- endfor -%}
            {%- do found.append({'relation': relation, 'rows': run_query('select count(*) from ' ~ relation ~ ' where ' ~ theirs | join(' or ')).rows[0][0] | int}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- Names of the tables in a schema, which may not be there. -#}
{% macro tables_in(database, schema) %}{{- return(adapter.dispatch('tables_in', 'lakebed')(database, schema)) -}}{% endmacro %}
{% macro duckdb__tables_in(database, schema) %}
    {{- return(run_query('select table_name from duckdb_tables() where database_name = ' ~ lakebed.text_literal(database) ~ ' and schema_name = ' ~ lakebed.text_literal(schema) ~ ' order by 1').columns[0].values()) -}}
{% endmacro %}
{% macro spark__tables_in(database, schema) %}{{- return(lakebed.tables_like(schema, '*')) -}}{% endmacro %}

{#- Drops a table with its files. -#}
{% macro drop_with_files(relation) %}{{- return(adapter.dispatch('drop_with_files', 'lakebed')(relation)) -}}{% endmacro %}
{% macro duckdb__drop_with_files(relation) %}{%- do run_query('drop table ' ~ relation) -%}{% endmacro %}
{% macro spark__drop_with_files(relation) %}{%- do run_query('drop table ' ~ relation ~ ' purge') -%}{% endmacro %}
