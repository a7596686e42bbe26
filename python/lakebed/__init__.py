"""Lakebed: the Python side of the lakehouse (ingestion, tools, and dbt's helpers)."""

__version__ = "0.1.0"
