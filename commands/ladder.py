"""
Which rungs of the degradation ladder are in force in this gate, and the switches by which each can be tried.

What can be asked beforehand is a condition here: counters, load and scoring, which the decision path tells about, and
whatever is watched. What only shows with one render (measures that are missing, a lease that is not there) is named by
those who decide it. A drill makes the gate behave as if something were missing, for a while.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from commands.conditions import Condition, Patience
from domain.events import ImpressionScored
from domain.ids import ImpressionId
from domain.ladder import LADDER, SEVERITY
from domain.vocabulary import Rung

TICK_S = 0.25
"""How often what is watched is looked at."""
DRILL_MAX_S = 600.0
SHED_RATE = 0.9
"""Share of renders that nothing stands against whose scoring is skipped under load; the rest shows what is missed."""
SHED_WAIT_SHARE = 0.5
"""Load is too high when renders wait for this share of what admission allows."""
PATIENCE: Mapping[Rung, Patience] = {
    Rung.PARTIAL_COUNTERS: Patience(failures=3, ill_s=0.0, proofs=10, well_s=5.0),
    Rung.SHED: Patience(failures=8, ill_s=0.25, proofs=8, well_s=2.0),
    Rung.MODEL_FALLBACK: Patience(failures=3, proofs=10, well_s=5.0),
    Rung.NO_ASYNC: Patience(well_s=5.0),
    Rung.STALE_LISTS: Patience(well_s=1.0),
    Rung.STALE_REGISTRY: Patience(well_s=2.0, proofs=4),
    Rung.STALE_BUDGET: Patience(well_s=2.0, proofs=4),
    Rung.SPOOLED: Patience(well_s=1.0),
}
"""`partial_client` shows render by render, and `sheltered` is said by an order: neither is a condition."""
_SHED_STEPS = 1 << 16
_SHED_BELOW = int(SHED_RATE * _SHED_STEPS)
_MIX = 0x9E37_79B9_7F4A_7C15
_WORD = (1 << 64) - 1


class DrillRefused(ValueError):
    """The drill cannot be done here; the text says why."""


class UnknownRung(DrillRefused):
    """There is no such rung."""


class Drill(Struct, frozen=True, kw_only=True):
    """As if what *rung* stands for were missing. `ends_at` is in seconds of the ladder's clock."""

    rung: Rung
    ends_at: float


class Ladder:
    """
    The ladder of one gate; belongs to one event loop. *clock* is monotonic, in seconds.

    `for_batch` costs a look at the clock: what it returns is made when something changes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.counters = Condition(PATIENCE[Rung.PARTIAL_COUNTERS], clock)
        self.load = Condition(PATIENCE[Rung.SHED], clock)
        self.model = Condition(PATIENCE[Rung.MODEL_FALLBACK], clock)
        self._told = {
            Rung.PARTIAL_COUNTERS: self.counters,
            Rung.SHED: self.load,
            Rung.MODEL_FALLBACK: self.model,
        }
        self._watched: dict[Rung, tuple[Callable[[], bool], Condition]] = {}
        self._unavailable: dict[Rung, str] = {
            Rung.FULL: "nothing is missing on it",
            Rung.SHELTERED: "other regions are sheltered by a signed order only",
        }
        self._drills: dict[Rung, Drill] = {}
        self._ended: list[Drill] = []
        self._next_end = float("inf")
        self._for_all: tuple[Rung, ...] = ()
        self._decided: Counter[tuple[Rung, tuple[Rung, ...]]] = Counter()

    @property
    def in_force(self) -> tuple[Rung, ...]:
        """All rungs in force, the worst first."""
        self._end_drills()
        found = set(self._drills)
        found |= {rung for rung, (_, condition) in self._watched.items() if condition.is_down}
        found |= {rung for rung, condition in self._told.items() if condition.is_down}
        return tuple(sorted(found, key=SEVERITY.__getitem__, reverse=True))

    @property
    def changes(self) -> dict[Rung, int]:
        """How often each condition has changed since the start."""
        found = {rung: condition.changes for rung, (_, condition) in self._watched.items()}
        for rung, condition in self._told.items():
            found[rung] = found.get(rung, 0) + condition.changes
        return found

    def watch(self, rung: Rung, is_missing: Callable[[], bool]) -> None:
        """Ask *is_missing* at every tick, to know whether *rung* is in force."""
        self._watched[rung] = is_missing, Condition(PATIENCE[rung], self.clock)

    def tick(self) -> None:
        """Look at what is watched; called every `TICK_S`."""
        self._end_drills()
        for is_missing, condition in self._watched.values():
            condition.note(is_well=not is_missing())

    def for_batch(self) -> tuple[Rung, ...]:
        """Return the rungs that every render of a batch names, whatever else comes of it."""
        self._end_drills()
        return self._for_all

    def is_without(self, rung: Rung) -> bool:
        """Tell whether to do without what *rung* stands for: a drill says so."""
        self._end_drills()
        return rung in self._drills

    @property
    def is_without_counters(self) -> bool:
        """Whether counters are not to be asked, but for a proof of their health."""
        return self.counters.is_down or Rung.PARTIAL_COUNTERS in self._drills

    @property
    def is_shedding(self) -> bool:
        return self.load.is_down or Rung.SHED in self._drills

    def waited(self, seconds: float, limit_s: float) -> None:
        """Say how long the oldest render waited, of at most *limit_s*."""
        self.load.note(is_well=seconds < SHED_WAIT_SHARE * limit_s)

    def decided(self, rung: Rung, beside: tuple[Rung, ...]) -> None:
        """Count one decision that names *rung* and those *beside* it."""
        self._decided[rung, beside] += 1

    def note_rungs(self, scored: Sequence[ImpressionScored]) -> None:
        """Count decisions by the rungs that *scored* name."""
        self._decided.update([(one.rung, one.rungs) for one in scored])

    @property
    def decisions(self) -> dict[Rung, int]:
        """How many decisions named each rung; one that names several counts for each."""
        found = dict.fromkeys(Rung, 0)
        for (rung, beside), count in self._decided.items():
            for named in (rung, *beside):
                found[named] += count
        return found

    def refuse(self, rung: Rung, why: str) -> None:
        """Nothing here depends on what *rung* stands for, so it cannot be drilled."""
        self._unavailable[rung] = why

    def drill(self, name: str, seconds: float) -> Drill:
        """
        Behave for *seconds* as if what the rung *name* stands for were missing; a second one takes its place.

        Raises:
            DrillRefused: it cannot be done; the text says why.
        """
        if name not in SEVERITY:
            known = ", ".join(step.rung.value for step in LADDER if step.rung not in self._unavailable)
            raise UnknownRung(f"there is no rung {name[:32]!r}; there are {known}")
        rung = Rung(name)
        if rung in self._unavailable:
            raise DrillRefused(f"{rung.value} cannot be drilled here: {self._unavailable[rung]}")
        if not 0 < seconds <= DRILL_MAX_S:
            raise DrillRefused(f"a drill takes more than 0 and at most {DRILL_MAX_S:g} seconds")
        now = self.clock()
        begun = self._drills[rung] = Drill(rung=rung, ends_at=now + seconds)
        self._renew()
        return begun

    def stop(self, name: str) -> bool:
        """End the drill of the rung *name* now; tell whether there was one."""
        found = next((rung for rung in self._drills if rung.value == name), None)
        if found is None:
            return False
        self._ended.append(self._drills.pop(found))
        self._renew()
        return True

    @property
    def drills(self) -> tuple[Drill, ...]:
        """The drills under way."""
        self._end_drills()
        return tuple(self._drills.values())

    @property
    def drillable(self) -> tuple[Rung, ...]:
        """The rungs that can be drilled here, in order of severity."""
        return tuple(step.rung for step in LADDER if step.rung not in self._unavailable)

    def take_ended(self) -> list[Drill]:
        """Return drills that ended since this was asked, to be told of."""
        ended, self._ended = self._ended, []
        return ended

    def _end_drills(self) -> None:
        now = self.clock()
        if now < self._next_end:
            return
        over = [drill for drill in self._drills.values() if drill.ends_at <= now]
        for drill in over:
            del self._drills[drill.rung]
        self._ended += over
        self._renew()

    def _renew(self) -> None:
        self._next_end = min((drill.ends_at for drill in self._drills.values()), default=float("inf"))
        named = [rung for rung in (Rung.STALE_LISTS, Rung.PARTIAL_CLIENT) if rung in self._drills]
        self._for_all = tuple(named)


def is_shed(impression: ImpressionId) -> bool:
    """Tell whether scoring of *impression* is among the share that is skipped; always the same for one."""
    return ((impression.int & _WORD) * _MIX & _WORD) >> 48 < _SHED_BELOW
