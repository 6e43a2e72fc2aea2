"""Computation: the device, transfers, worker threads, evaluation of requests."""
