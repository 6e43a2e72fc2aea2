"""Writes a user's own file again with the labels that the reviews of a run settle."""
