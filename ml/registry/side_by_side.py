"""What a gate sees of two models that score the same renders, by the hour, bounded."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.placement_events import Role
from domain.reasons import Reason
from ml.models.scorer import CLEAR, Scores
from ml.registry.memory import added
from ml.registry.registry import Compared, ComparedKey

HOUR_MS = 3_600_000
CURRENCIES_MAX = 8
"""Money of further currencies is not told; their rows stand under no currency."""
MODELS_WORD = frozenset({Reason.RISK_GREY, Reason.RISK_HIGH})


class Pair(NamedTuple):
    """Two models by id, and which role the other has."""

    role: Role
    champion: str
    other: str


class Rows(NamedTuple):
    """Of each render that both scored: what it costs, and whether its money depends on the model's word alone."""

    currency: Sequence[str]
    price_micros: NDArray[np.int64]
    is_open: NDArray[np.bool_]


def is_models_word(reasons: Collection[Reason]) -> bool:
    """Tell whether nothing but a model's word can stand against a render with *reasons*."""
    return not reasons or MODELS_WORD.issuperset(reasons)


class SideBySide:
    """Comparisons of the hour and the one before it. Belongs to one thread; *gate* tells this process's rows apart."""

    def __init__(self, gate: str) -> None:
        self._gate = gate
        self._kept: dict[ComparedKey, Compared] = {}
        self._changed: set[ComparedKey] = set()
        self._currencies: set[str] = set()

    def note(self, at: int, pair: Pair, scores: tuple[Scores, Scores], rows: Rows) -> list[Compared]:
        """Count what the champion and the other, in this order, said at *at* (epoch ms) of *rows*, and return it."""
        hour, found = at - at % HOUR_MS, []
        named = [self._name_of(currency) for currency in rows.currency]
        for currency in set(named):
            mine = np.array([one == currency for one in named])
            key = ComparedKey(
                hour=hour,
                gate=self._gate,
                role=pair.role,
                champion=pair.champion,
                other=pair.other,
                currency=currency,
            )
            seen = _compare(key, scores, rows, mine)
            self._kept[key] = added(self._kept.get(key, Compared(key=key)), seen)
            self._changed.add(key)
            found.append(seen)
        return found

    def take(self, now: int) -> list[Compared]:
        """Return the rows that have changed since this was asked; what is over for an hour is forgotten afterwards."""
        taken = [self._kept[key] for key in self._changed]
        self._changed.clear()
        oldest = now - now % HOUR_MS - HOUR_MS
        self._kept = {key: row for key, row in self._kept.items() if key.hour >= oldest}
        return taken

    def give_back(self, rows: Sequence[Compared]) -> None:
        """Say that *rows*, which were taken, were not kept anywhere."""
        for row in rows:
            self._kept.setdefault(row.key, row)
            self._changed.add(row.key)

    def _name_of(self, currency: str) -> str:
        if currency not in self._currencies and len(self._currencies) >= CURRENCIES_MAX:
            return ""
        self._currencies.add(currency)
        return currency


def _compare(key: ComparedKey, scores: tuple[Scores, Scores], rows: Rows, mine: NDArray[np.bool_]) -> Compared:
    champion, other = scores
    band, band_of_other = champion.band[mine].astype(np.int64), other.band[mine].astype(np.int64)
    difference = other.risk[mine] - champion.risk[mine]
    moved = (band_of_other == CLEAR).astype(np.int64) - (band == CLEAR)
    money = int((moved * rows.price_micros[mine] * rows.is_open[mine]).sum()) if key.currency else 0
    return Compared(
        key=key,
        rows=int(mine.sum()),
        agreed=int((band == band_of_other).sum()),
        stricter=int((band_of_other > band).sum()),
        milder=int((band_of_other < band).sum()),
        difference_sum=float(difference.sum()),
        difference_abs_sum=float(np.abs(difference).sum()),
        difference_max=float(np.abs(difference).max(initial=0.0)),
        money_micros=money,
    )
