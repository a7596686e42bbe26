"""Change data capture: what a database's log says, in bronze."""
