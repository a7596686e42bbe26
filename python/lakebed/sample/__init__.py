"""Sample data: real data, landed as its owner would drop it, clean or with known faults."""
