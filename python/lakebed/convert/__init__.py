"""A table changes its format while people read and write it: `lakebed convert`."""
