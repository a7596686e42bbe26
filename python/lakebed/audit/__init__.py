"""`lakebed audit`: what teams come to regret, found in the code before it is found in the data."""
