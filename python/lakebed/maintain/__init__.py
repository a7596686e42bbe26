"""Storage that looks after itself: `lakebed maintain`."""
