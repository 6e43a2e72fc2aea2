"""Runs: batches stored as immutable Parquet files, and DuckDB queries over them."""
