{{ lakebed.landed_lines('retail', 'products') }}
