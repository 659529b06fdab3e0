"""Benchmarks: `python -m bench.NAME`; the last line of each is one JSON object."""
