"""Fused kernels for the CPU and for CUDA, and the choice between them and torch."""
