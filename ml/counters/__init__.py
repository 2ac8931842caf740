"""Exact sliding-window counters over the renders that a gate decides, in compiled kernels and bounded memory."""
