"""Diagnostics of a data set: label errors, class overlap, calibration, training dynamics, comparison of runs."""
