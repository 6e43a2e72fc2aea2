"""The loss: formula, torch module, and the scores of every example."""
