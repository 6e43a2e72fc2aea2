"""Mining: queues of examples to review under a budget, the reason for each row, and statistics of the reviews."""
