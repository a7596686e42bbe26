{{ lakebed.landed_lines('retail', 'households') }}
