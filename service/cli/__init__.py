"""The command `focal-loss`."""
