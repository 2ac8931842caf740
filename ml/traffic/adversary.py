"""
Somebody who tunes bots against the answers that they get, and knows nothing else: no truth, no model, no threshold.

A small evolution: a few ways of going about it are tried side by side, those that earned most are kept, mixed and
changed. What is earned is what was counted, per device and hour at work. Who is told no verdict learns nothing and goes
on guessing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from msgspec import Struct
from msgspec.structs import asdict

from domain.render import Kind
from ml.traffic.addresses import countries_of
from ml.traffic.browsers import moved
from ml.traffic.deeds import plain
from ml.traffic.draw import Span, Weighted, pick
from ml.traffic.drills import draw_days
from ml.traffic.events import Sending, TruthSink
from ml.traffic.fingerprints import leaking
from ml.traffic.looks import Gaze
from ml.traffic.market import Market
from ml.traffic.people import Person, person
from ml.traffic.shot import Minter, Shot
from ml.traffic.visitors import Guests, Visitors

NAME = "adversary"
WAYS = 12
KEPT = 4
DEVICES = 4
"""Devices that try one way in one round."""
MUTATED = 0.41
"""Share of habits that a child has from neither parent."""
STEP = 0.23
"""How far a changed habit is from its parent's, as a share of all that is possible, at first."""
STEP_SHRINKS = 0.87
AT_WORK_MIN_H = 0.0043
"""Fifteen seconds: who works less has not worked."""

HABITS: dict[str, Span] = {
    "gap_ms": Span(83, 41_000, by_size=True),
    "jitter": Span(0.003, 0.89),
    "shots": Span(7, 137, by_size=True),
    "per_address": Span(1, 41, by_size=True),
    "rented": Span(0, 1),
    "lag": Span(0, 33),
    "leaks": Span(0, 0.53),
    "ratio": Span(0.13, 1),
    "look_ms": Span(230, 8_900, by_size=True),
    "look_spread": Span(0.003, 0.91),
}
"""What it can choose: the rhythm, devices per address, data centres or homes, age and care of its browsers, looks."""


class Way(Struct, frozen=True, kw_only=True):
    """One way of going about it; each habit is where in its span of `HABITS` it lies, in [0, 1]."""

    gap_ms: float
    jitter: float
    shots: float
    per_address: float
    rented: float
    lag: float
    leaks: float
    ratio: float
    look_ms: float
    look_spread: float

    def habits(self) -> dict[str, float]:
        """Return the habits in their own units."""
        return {name: _at(HABITS[name], place) for name, place in asdict(self).items()}


class Told(Protocol):
    """What it may see of an answer."""

    @property
    def verdict(self) -> str | None: ...


Decide = Callable[[Sequence[Sending]], Sequence[Told]]
"""The gate, from outside: one answer per event, in order."""


class Round(Struct, frozen=True, kw_only=True):
    """What one round brought. `earned` is counted ads per device and hour, `counted` their share of all; best first."""

    ends_ms: int
    ways: list[Way]
    earned: list[float]
    counted: list[float]


class Adversary:
    """
    Plays rounds against a gate; its ads are minted by *minter* for the campaigns of *market*. *truth* is not read here.

    The same seed and answers give the same events.
    """

    def __init__(self, seed: int, minter: Minter, market: Market, truth: TruthSink) -> None:
        self._rng = Random(f"{NAME} {seed}")
        self._minter, self._truth = minter, truth
        self._visitors = Visitors(self._rng, Guests(1, minter, frozenset()), market)
        self._countries = Weighted(countries_of(minter.region).items())
        self._step = STEP
        self._ways = [self._guess() for _ in range(WAYS)]

    def round(self, decide: Decide, start_ms: int) -> Round:
        """Try all ways from *start_ms* on, learn from the answers, and say what they brought."""
        self._visitors.open(draw_days(frozenset(), 0.0, self._rng, outage=False), start_ms)
        sent: list[tuple[int, Sending]] = []
        hours = [self._play(nth, way, start_ms, sent) for nth, way in enumerate(self._ways)]
        sent.sort(key=lambda pair: pair[1].at_ms)
        answers = decide([sending for _, sending in sent])
        shown, counted = Counter[int](), Counter[int]()
        for (way, sending), answer in zip(sent, answers, strict=True):
            if sending.event.kind is Kind.RENDER:
                shown[way] += 1
                counted[way] += answer.verdict == "valid"
        earned = [counted[nth] / max(hours[nth], AT_WORK_MIN_H * DEVICES) for nth in range(WAYS)]
        best = sorted(range(WAYS), key=lambda nth: -earned[nth])
        report = Round(
            ends_ms=sent[-1][1].at_ms if sent else start_ms,
            ways=[self._ways[nth] for nth in best],
            earned=[earned[nth] for nth in best],
            counted=[counted[nth] / max(shown[nth], 1) for nth in best],
        )
        self._learn(report)
        return report

    def _learn(self, report: Round) -> None:
        """Keep the best, and let their children try what they did not. What earned nothing has nothing to teach."""
        parents = [way for way, earned in zip(report.ways, report.earned, strict=True) if earned > 0][:KEPT]
        children = [self._child(pick(parents, self._rng), pick(parents, self._rng)) for _ in range(WAYS) if parents]
        self._ways = (parents + children)[:WAYS] if parents else [self._guess() for _ in range(WAYS)]
        self._step *= STEP_SHRINKS

    def _guess(self) -> Way:
        return Way(**{name: self._rng.random() for name in HABITS})

    def _child(self, one: Way, other: Way) -> Way:
        rng = self._rng
        mixed = {name: getattr(pick((one, other), rng), name) for name in HABITS}
        for name in HABITS:
            if rng.random() < MUTATED:
                mixed[name] = min(max(mixed[name] + rng.gauss(0, self._step), 0.0), 1.0)
        return Way(**mixed)

    def _play(self, nth: int, way: Way, start_ms: int, sent: list[tuple[int, Sending]]) -> float:
        """Send what the devices of one way send; return the hours that they were at work, added up."""
        habits, hours = way.habits(), 0.0
        addresses: list[str] = []
        for number in range(DEVICES):
            session = self._visitors.session(self._device(habits, addresses, number), start_ms)
            now = start_ms + int(self._rng.random() * habits["gap_ms"])
            began = now
            while session.left > 0:
                shot = Shot(self._rng, self._minter, session, self._visitors.slot(session), now)
                plain(shot)
                for at, again, event, truth in shot.sent:
                    if truth is not None:
                        self._truth(truth)
                    sent.append((nth, Sending(at, event, again)))
                now += session.gap_ms(self._rng)
                session.left -= 1
            hours += (now - began) / 3_600_000
        return hours

    def _device(self, habits: dict[str, float], addresses: list[str], number: int) -> Person:
        rng, scenery = self._rng, self._visitors.scenery
        country = self._countries.draw(rng)
        if number >= len(addresses) * int(habits["per_address"]):
            rented = rng.random() < habits["rented"]
            addresses.append(scenery.addresses.cloud(rng) if rented else scenery.addresses.home(country, rng))
        made = person(scenery, country, moved(scenery.browsers.phone(rng), -int(habits["lag"])), [addresses[-1]])
        made.actor, made.human = NAME, False
        made.fingerprint = leaking(made.fingerprint, habits["leaks"], rng)
        made.gap, made.shots = _around(habits["gap_ms"], habits["jitter"]), Span(habits["shots"], habits["shots"])
        ratio = Span(habits["ratio"] * (1 - habits["look_spread"]), habits["ratio"])
        made.gaze = Gaze(ratio, _around(habits["look_ms"], habits["look_spread"]), 0.0)
        return made


def _at(span: Span, place: float) -> float:
    """Return what lies at *place*, in [0, 1], of *span*."""
    if span.by_size:
        return float(span.low * (span.high / span.low) ** place)
    return span.low + (span.high - span.low) * place


def _around(middle: float, spread: float) -> Span:
    return Span(middle * (1 - spread), middle * (1 + spread))
