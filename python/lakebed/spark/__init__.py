"""What open-source Spark needs to run the project: jars, settings, Python models."""
