"""Measurements, each with its peer in the same run: `make bench` for all, `python -m benchmarks.NAME` for one."""
