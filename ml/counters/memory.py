"""
Takes the memory of large arrays from the kernel before it is needed.

The kernel clears a page when it is first written to, and of large arrays numpy asks for pages of 2 MiB: some
milliseconds each, in the middle of somebody's answer.
"""

import ctypes
import mmap
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

_MADV_POPULATE_WRITE = 23
"""Since Linux 5.14; what stands in the pages stays (madvise(2))."""


def take_memory(arrays: Iterable[NDArray[Any]]) -> bool:
    """
    Have every whole page of *arrays* at hand; return whether the system can do that.

    Where it cannot, pages are taken as they are written to.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None:
        return False
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for array in arrays:
        first = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < end and advise(first, end - first, _MADV_POPULATE_WRITE):
            return False
    return True
