{{ lakebed.landed_lines('retail', 'transactions') }}
