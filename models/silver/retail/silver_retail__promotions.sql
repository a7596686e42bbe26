{%- set bronze = ref('bronze_retail__promotions') -%}
{%- set keys = ['product_id', 'store_id', 'week', 'display_location', 'mailer_location'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__promotions', lakebed.new_batches(bronze)) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', keys, '_batch_id, _file_name, _line', null_keys='group', unique_order=true) }}
),

final as (
    {{ lakebed.rows_not_held('first_received', keys) }}
)

select * from final
