{#- Lets go of old versions and of the files that only they need. What the tables promise is kept: a
    model's `meta: {time_travel_days: 30}`, else var('time_travel_days'); DuckLake has one history for
    the whole lake, so there the longest promise of any table holds for all. Tagged versions stay
    readable: DuckLake and Iceberg leave them out; Delta cannot, so an older tag is an error there.
    Arguments: keep_days, versions younger than this stay; relation, or `schema.table`, on Delta and
    Iceberg (there every table of the project without it); dry_run, to say what would go, and let
    nothing go.
    Files that a running writer has not yet committed are younger than a day, and stay.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation expire --args '{keep_days: 30, dry_run: true}' -#}
{% macro expire(keep_days, relation=none, dry_run=false) %}
    {%- if execute -%}
        {%- set days = keep_days | string | trim -%}
        {%- if not modules.re.fullmatch('[0-9]+', days) -%}
            {{ exceptions.raise_compiler_error("Lakebed: keep_days must be a number of days, not '" ~ keep_days ~ "'.") }}
        {%- endif -%}
        {%- if dry_run is not boolean -%}
            {{ exceptions.raise_compiler_error("Lakebed: dry_run is true or false, not '" ~ dry_run ~ "'.") }}
        {%- endif -%}
        {%- do lakebed.expire_tables(days | int, [lakebed.stored_table(relation)] if relation else none, dry_run) -%}
        {%- do lakebed.commit() -%}
    {%- endif -%}
{% endmacro %}

{#- What `expire` says at its end. -#}
{% macro say_expired(versions, files, dry_run) %}
    {%- if dry_run -%}
        {%- do print(versions ~ ' versions would be expired; ' ~ files ~ ' files that no version needs would be removed') -%}
    {%- else -%}
        {%- do print(versions ~ ' versions expired, ' ~ files ~ ' files removed') -%}
    {%- endif -%}
{% endmacro %}

{#- The longest promise of time travel of some tables (of all by default), and who made it.
    Returns: [days, name]. -#}
{% macro time_travel_promise(tables=none) %}
    {%- set names = tables | map(attribute='identifier') | list if tables else none -%}
    {%- set longest = {'days': var('time_travel_days', 7) | int, 'of': "var('time_travel_days')"} -%}
    {%- for node in graph.nodes.values() if node.resource_type in ['model', 'snapshot', 'seed'] and (names is none or node.alias in names) -%}
        {%- set days = node.config.get('meta', {}).get('time_travel_days', 0) | int -%}
        {%- if days > longest.days -%}{%- do longest.update(days=days, of=node.name) -%}{%- endif -%}
    {%- endfor -%}
    {{- return([longest.days, longest.of]) -}}
{% endmacro %}

{% macro check_promise(days, tables=none) %}
    {%- set promise = lakebed.time_travel_promise(tables) -%}
    {%- if days < promise[0] -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ promise[1] ~ " promises " ~ promise[0] ~ " days of time travel; versions of the last " ~ days ~ " days only would break it. Nothing was expired.") }}
    {%- endif -%}
{% endmacro %}
