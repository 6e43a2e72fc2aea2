"""File and wire formats, without torch and without the schema of requests."""
