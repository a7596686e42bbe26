{{ lakebed.landed_lines('retail', 'coupon_redemptions') }}
