"""Exports of a run or a queue, as files for labelling tools and as tables."""
