"""Benchmarks (`make bench`): measurements and their bars. The exit status is 1 if a bar is missed."""
