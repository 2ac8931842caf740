"""
Keeps memory that is needed again a moment later.

glibc gives freed memory back to the kernel at once, and the kernel clears each page that it hands out again. Here every
batch and every block of rows needs as much as the one before. Elsewhere than on glibc this does nothing.
"""

import ctypes

_MIB = 1 << 20
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = 64 * _MIB, 8 * _MIB, 32 * _MIB
"""Bytes of free memory kept, taken at once, and from which on a piece is mapped by itself (mallopt(3))."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3

ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(_TRIM_THRESHOLD),
    "MALLOC_TOP_PAD_": str(_TOP_PAD),
    "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD),
}
"""The same for a program that is started."""


def keep_memory() -> None:
    """Set this process's allocator so; before it has threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
        mallopt(_M_TOP_PAD, _TOP_PAD)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
