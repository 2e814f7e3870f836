"""Reducing scenes to signatures: spans, kernels and the worker."""
