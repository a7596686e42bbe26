{{ lakebed.landed_lines('retail', 'campaign_households') }}
