"""The demos: `make demo`, and with a TASK."""
