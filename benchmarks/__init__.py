"""One command per speed bar: ratios measured in one run, written to docs/benchmarks.md."""
