"""Annotations of labelling tools that come back as reviews."""
