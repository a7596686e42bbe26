"""Sources that feed the lake."""
