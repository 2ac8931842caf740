"""The inspection of SDK versions: what they lose and what they fire twice, from the desk's tables."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from ml.monitors.checks import CLIENT_CHECKS, Check, Measured
from ml.monitors.clients import Series, untested, versions_apart
from projections.cells import CellQueries, Cells, NumbersMinute, ServedMinute
from service.monitoring import Seen

CELLS_MAX = 200
"""Of each check, the SDK versions with most to look at; clients may name as many as they like."""
UNREPORTED_MAX = 0.01
"""Where more of a surface's renders than this share have no serve under their SDK, the two sides cannot be compared."""
_UNLIKE = "delivery and clients do not name the same SDK versions, or reports are missing"


class ClientInspection:
    """Looks at the last *window_s* of *cells*. *now* tells the time in epoch ms."""

    name = "clients"
    checks = CLIENT_CHECKS

    def __init__(self, cells: CellQueries, now: Callable[[], int], *, every_s: int, window_s: int) -> None:
        self._cells = cells
        self._now = now
        self.every_s = every_s
        self._window_s = window_s

    async def measure(self) -> Seen:
        """See `Inspection.measure`."""
        cells = await self._cells.cells(self._window_s * 1_000)
        measured = await asyncio.to_thread(measured_of, cells, self._now() - self._window_s * 1_000)
        says = f"the last {self._window_s} s of the tables"
        if cells.left_out:
            says += f" without the {cells.left_out} smallest SDK versions"
        return Seen(known_through=cells.known_through, lag_s=cells.lag_s, measured=measured, says=says)


def measured_of(cells: Cells, since: int) -> list[Measured]:
    """Return how *cells* compare; what needs no waiting is looked at from *since* (epoch ms) on."""
    recent = [minute for minute in cells.served if minute.at >= since]
    over = [minute for minute in cells.served if minute.over]
    unlike = _unlike(over)
    lost = _series(Check.LOST, over, lambda one: (max(0, one.served - one.heard), one.served))
    series = [
        *(one for one in lost if one.surface not in unlike),
        *_series(Check.DOUBLE_FIRES, recent, lambda one: (one.double_fires, one.heard)),
        *_series(
            Check.DUPLICATE_RENDERS,
            recent,
            lambda one: (one.duplicate_renders, one.heard + one.duplicate_renders),
        ),
        *_numbers(cells.numbers),
    ]
    return [*versions_apart(series), *(untested(one, _UNLIKE) for one in lost if one.surface in unlike)]


def _unlike(minutes: Iterable[ServedMinute]) -> set[str]:
    """The surfaces on which served and heard of cannot be put beside each other by SDK."""
    sums: dict[tuple[str, str | None], list[int]] = defaultdict(lambda: [0, 0])
    for minute in minutes:
        sums[minute.surface, minute.sdk][0] += minute.served
        sums[minute.surface, minute.sdk][1] += minute.heard
    served: dict[str, int] = defaultdict(int)
    unreported: dict[str, int] = defaultdict(int)
    for (surface, _), (was_served, was_heard) in sums.items():
        served[surface] += was_served
        unreported[surface] += max(0, was_heard - was_served)
    return {surface for surface, number in unreported.items() if number > UNREPORTED_MAX * served[surface]}


def _series(
    check: Check, minutes: Iterable[ServedMinute], counts: Callable[[ServedMinute], tuple[int, int]]
) -> list[Series]:
    return _largest(check, [((one.surface, one.sdk), counts(one)) for one in minutes if one.sdk is not None])


def _numbers(minutes: Iterable[NumbersMinute]) -> list[Series]:
    counts = [((one.surface, one.sdk), (max(0, one.missing), one.numbers)) for one in minutes if one.sdk is not None]
    return _largest(Check.MISSING_NUMBERS, counts)


def _largest(check: Check, counts: Sequence[tuple[tuple[str, str], tuple[int, int]]]) -> list[Series]:
    cells: dict[tuple[str, str], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for cell, (hits, trials) in counts:
        if trials > 0:
            cells[cell][0].append(min(hits, trials))
            cells[cell][1].append(trials)
    series = [Series(check, *cell, hits, trials) for cell, (hits, trials) in cells.items()]
    return sorted(series, key=lambda one: -sum(one.trials))[:CELLS_MAX]
