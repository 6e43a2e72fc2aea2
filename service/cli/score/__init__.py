"""`focal-loss score`: files in, scores out, resumable."""
