"""DuckDB queries over the files of runs: scores of any configuration, and pages of examples."""
