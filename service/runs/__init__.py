"""Runs: batches stored as immutable Parquet files, with the queues and reviews of their examples."""
