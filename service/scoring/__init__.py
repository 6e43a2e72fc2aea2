"""`focal-loss score`: files of logits and targets in, a file of losses out; an interrupted run goes on."""
