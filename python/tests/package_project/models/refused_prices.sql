with checked as (
    {{ lakebed.checked_rows(ref('raw_prices'), 'prices') }}
),

final as (
    {{ lakebed.quarantined_rows('checked') }}
)

select _file_name, _line, _record, broken_rules from final
