{{ lakebed.landed_lines('retail', 'promotions') }}
