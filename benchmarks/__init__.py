"""Benchmarks: `make bench`. Each prints what it measured beside its bar; a missed bar makes the exit status 1."""
