"""Measurements, each with its peer in the same run. `make bench` runs all of them; `python -m benchmarks.NAME` runs one."""
