"""Regional lakes into a central one: `lakebed consolidate`."""
