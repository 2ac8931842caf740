"""
The compiled walk through the trees.

All rows of a block take one step down a tree at a time, a leaf leads to itself, and no step branches: so many steps are
under way at once, and none waits for a guess to be proved wrong. Few rows walk all trees at a time instead.

NaN goes where the node says without being asked for: each feature has two columns, as it is (NaN is not below any
threshold, so it goes right) and with -inf for NaN (which goes left), and a node reads the one that suits it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from ml.compiled import inner, kernel
from ml.models.artifact import Floats, Trees, depths

BLOCK = 64
FEW = 8
"""So many rows, or fewer, are walked one by one."""
_CHILD_BITS = 32
_CHILD = (1 << _CHILD_BITS) - 1


class Forest(NamedTuple):
    """
    Trees, ready to be walked. Nodes stand in order of their depth, so that a right child follows on its left one.

    `ways` has the column that a node reads and, in its lower 32 bits, its left child, for a leaf the leaf itself.
    `steps` is how many steps the longest way down each tree has.
    """

    starts: NDArray[np.int32]
    steps: NDArray[np.int32]
    ways: NDArray[np.int64]
    threshold: Floats
    value: Floats
    baseline: float


def forest(trees: Trees) -> Forest:
    """Return *trees*, which were checked when they were loaded, as the kernel walks them."""
    order = np.fromiter(_by_depth(trees), np.int64, len(trees.feature))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    is_leaf = trees.left[order] < 0
    child = np.where(is_leaf, place[order], place[trees.left[order]])
    column = 2 * trees.feature[order].astype(np.int64) + np.where(is_leaf, 1, trees.missing_left[order])
    return Forest(
        starts=np.ascontiguousarray(trees.starts),
        steps=depths(trees),
        ways=column << _CHILD_BITS | child,
        threshold=np.where(is_leaf, np.inf, trees.threshold[order]),
        value=trees.value[order],
        baseline=float(trees.baseline),
    )


def margins(trees: Forest, rows: Floats) -> Floats:
    """
    Return the margin of each of *rows* (n, features), which has all features that *trees* read.

    The values are added in the order of the trees, as scikit-learn adds them.
    """
    rows = np.ascontiguousarray(rows, np.float64)
    out = np.full(len(rows), trees.baseline)
    walk = _walk_each if len(rows) <= FEW else _walk_blocks
    walk(*trees[:-1], rows, out)
    return out


def _by_depth(trees: Trees) -> Iterator[int]:
    for first in trees.starts[:-1].tolist():
        level = [first]
        while level:
            yield from level
            inner = [node for node in level if trees.left[node] >= 0]
            level = [child for node in inner for child in (int(trees.left[node]), int(trees.right[node]))]


_INTS, _FLOATS = numba.int32[::1], numba.float64[::1]
_SIGNATURE = numba.void(_INTS, _INTS, numba.int64[::1], _FLOATS, _FLOATS, numba.float64[:, ::1], _FLOATS)


@inner
def _spread(rows: Any, row: int, columns: Any, at: int) -> None:
    for feature in range(rows.shape[1]):
        x = rows[row, feature]
        columns[at, 2 * feature] = x
        columns[at, 2 * feature + 1] = -np.inf if np.isnan(x) else x


@kernel(_SIGNATURE)
def _walk_blocks(starts: Any, steps: Any, ways: Any, threshold: Any, value: Any, rows: Any, out: Any) -> None:
    at, columns = np.empty(BLOCK, np.int64), np.empty((BLOCK, 2 * rows.shape[1]))
    for first in range(0, len(rows), BLOCK):
        n = min(BLOCK, len(rows) - first)
        for i in range(n):
            _spread(rows, first + i, columns, i)
        for tree in range(len(steps)):
            for i in range(n):
                at[i] = starts[tree]
            for _ in range(steps[tree]):
                for i in range(n):
                    way = ways[at[i]]
                    is_left = columns[i, way >> _CHILD_BITS] <= threshold[at[i]]
                    at[i] = (way & _CHILD) + (1 - is_left)
            for i in range(n):
                out[first + i] += value[at[i]]


@kernel(_SIGNATURE)
def _walk_each(starts: Any, steps: Any, ways: Any, threshold: Any, value: Any, rows: Any, out: Any) -> None:
    at, columns = np.empty(len(steps), np.int64), np.empty((1, 2 * rows.shape[1]))
    deepest = 0
    for tree in range(len(steps)):
        deepest = max(deepest, steps[tree])
    for i in range(len(rows)):
        _spread(rows, i, columns, 0)
        for tree in range(len(steps)):
            at[tree] = starts[tree]
        for _ in range(deepest):
            for tree in range(len(steps)):
                way = ways[at[tree]]
                is_left = columns[0, way >> _CHILD_BITS] <= threshold[at[tree]]
                at[tree] = (way & _CHILD) + (1 - is_left)
        for tree in range(len(steps)):
            out[i] += value[at[tree]]
