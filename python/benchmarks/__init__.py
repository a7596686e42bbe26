"""Benchmarks of Lakebed against the usual alternative, side by side in one run.

    cd python && python -m benchmarks            # all
    cd python && python -m benchmarks deduplicate build

Only ratios are worth keeping: each benchmark runs its variants in turn, several times, on this
machine, and compares medians. Results go to data/benchmarks.json.
"""
