"""
How kernels are compiled: for one signature, so that nothing is compiled at the first request.

The cache outlives the process and goes by the file of the kernel: numba does not notice changes elsewhere, nor here.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(signature: Any) -> Callable[[F], F]:
    """Return what compiles a function for *signature* alone."""
    jit: Any = numba.njit(signature, nogil=True, cache=True, error_model="numpy")
    return cast("Callable[[F], F]", jit)


def inner(function: F) -> F:
    """Have *function* become part of the kernels that call it."""
    jit: Any = numba.njit(nogil=True, error_model="numpy", forceinline=True)
    return cast("F", jit(function))
