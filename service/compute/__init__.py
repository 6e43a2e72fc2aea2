"""Computation of losses: device, transfers, worker threads, evaluation of requests."""
