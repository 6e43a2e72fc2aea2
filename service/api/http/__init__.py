"""HTTP plumbing that the routes share: bodies, encodings, problems, documentation."""
