"""One thread for all that is fitted: sums in another order would be other models, and the machine has other work."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Pin OpenMP and BLAS, which scikit-learn computes with, to one thread each."""
    with threadpool_limits(limits=1):
        yield
