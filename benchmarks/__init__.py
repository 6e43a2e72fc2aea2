"""Benchmarks: `make bench`. They print their figures and whether these meet the bars. Exit status 1 if not."""
