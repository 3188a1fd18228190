"""How fast bundles move, measured from outside and beside other tools; see docs/benchmarks.md."""
