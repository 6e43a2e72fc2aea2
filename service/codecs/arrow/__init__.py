"""Arrow streams."""
