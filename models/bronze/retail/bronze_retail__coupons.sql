{{ lakebed.landed_lines('retail', 'coupons') }}
