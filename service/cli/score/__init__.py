"""The command `focal-loss score`: read files, score their rows, write the scores."""
