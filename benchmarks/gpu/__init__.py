"""Measurements on a GPU, and `make gpu-check`: tests, self-check and figures of a GPU machine in one report."""
