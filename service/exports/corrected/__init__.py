"""The corrected data set of a run: every example with the label to use, as the reviews settle it."""
