"""Whole files of rows: Arrow, Parquet, CSV."""
