with checked as (
    {{ lakebed.checked_rows(ref('raw_prices'), 'prices') }}
),

final as (
    {{ lakebed.valid_rows('checked') }}
)

select product_id, price, since, _file_name, _line from final
