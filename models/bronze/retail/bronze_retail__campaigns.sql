{{ lakebed.landed_lines('retail', 'campaigns') }}
