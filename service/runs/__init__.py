"""Runs: the batches that a team keeps, as immutable Parquet files that DuckDB reads."""
