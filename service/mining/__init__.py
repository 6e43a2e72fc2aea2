"""Mining: which examples to look at next under a budget, why, and what the reviews say of it."""
