"""Measurements on a GPU, and `make gpu-check`: tests, self-check and figures of a bare machine in one report."""
