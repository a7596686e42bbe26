{{ lakebed.deduplicate(ref('order_changes'), ['order_id'], 'changed_at nulls last') }}
