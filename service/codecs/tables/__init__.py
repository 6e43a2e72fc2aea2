"""Files of rows: Arrow, Parquet, CSV."""
