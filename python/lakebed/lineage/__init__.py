"""Where columns come from and go to: the graph, its questions, and OpenLineage events."""
