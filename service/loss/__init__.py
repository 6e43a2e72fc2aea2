"""The loss: the formula, the module that torch users call, and every score of every example."""
