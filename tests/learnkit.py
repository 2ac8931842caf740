"""A ledger to learn from: renders whose claims tell who is invalid, and labels that arrive as labels do."""

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

import numpy as np
from builders import DAY, HOUR, MINTED, SECOND, admit, decide
from msgspec.structs import replace

from domain.events import ImpressionLabelled
from domain.ids import mint
from domain.impression import Unseen
from domain.vocabulary import Label, LabelSource
from ledger.codec import encode
from ledger.store import Commit

DAYS = 20
SOURCES = {
    LabelSource.HONEYPOT: (0.1, Label.INVALID, HOUR),
    LabelSource.THIRD_PARTY: (0.25, Label.INVALID, DAY),
    LabelSource.DISPUTE: (0.1, Label.INVALID, 6 * DAY),
    LabelSource.HUMAN_SIGNAL: (0.05, Label.HUMAN, HOUR),
}
"""The share of its class that a source labels in the end, what it says, and its mean delay in ms."""


class World(NamedTuple):
    """What stands in a ledger, in order, and, by impression, whether it is invalid in truth."""

    commits: list[Commit]
    truth: dict[str, bool]
    until: int
    cutoff: int


def a_world(n=4_000, seed=1, *, share=0.08, days=DAYS, change=lambda events: events) -> World:
    """*n* impressions over *days*; *change* may rewrite the events of each first commit."""
    dice = np.random.default_rng(seed)
    at = np.sort(dice.integers(0, days * DAY, n)) + MINTED
    invalid = dice.random(n) < share
    told = {name: column.tolist() for name, column in _claimed(dice, invalid).items()}
    plain = decide(Unseen(), admit())
    found: list[tuple[int, UUID, tuple]] = []
    truth = {}
    for row in range(n):
        time = int(at[row])
        impression = mint(time, row % 4_096, int(dice.integers(1 << 60)))
        truth[str(impression)] = bool(invalid[row])
        claims = {name: column[row] for name, column in told.items()}
        propensity = 0.003 if row % 300 == 0 else None
        events = _decided(plain, time, UUID(int=int(dice.integers(1 << 60))), claims, propensity)
        found.append((time + SECOND, impression, change(events)))
        found += [(label.received_at, impression, (label,)) for label in _labels(dice, time, bool(invalid[row]))]
    found.sort(key=lambda one: (one[0], one[1]))
    until_ms = MINTED + days * DAY
    kept = [one for one in found if one[0] <= until_ms]
    commits = [a_commit(position, *one) for position, one in enumerate(kept, 1)]
    return World(commits, truth, len(commits), until_ms)


def a_commit(position, recorded_at, stream, events) -> Commit:
    return Commit(
        position=position,
        stream=stream,
        version=0,
        count=len(events),
        cause=events[0].cause,
        digest="",
        recorded_at=recorded_at,
        data=encode(events),
    )


def a_label(source=LabelSource.HONEYPOT, label=Label.INVALID, at=MINTED, **changes) -> ImpressionLabelled:
    given = {
        "cause": UUID(int=abs(hash((source, label, at)))),
        "digest": "",
        "source": source,
        "label": label,
        "weight": 1.0,
        "observed_at": at,
        "received_at": at,
    }
    return ImpressionLabelled(**{**given, **changes})


async def read(commits) -> AsyncIterator[Commit]:
    for commit in commits:
        yield commit


def _claimed(dice, invalid):
    """Agent and fingerprint tell, each in its way and neither of all; measures are noise."""
    n = len(invalid)
    of_agent, of_fingerprint = invalid & (dice.random(n) < 0.8), invalid & (dice.random(n) < 0.7)
    people = dice.integers(1, max(n // 3, 2), n)
    return {
        "agent_age_days": dice.poisson(60 + 240 * of_agent),
        "fingerprint_inconsistencies": dice.poisson(0.2 + 2.5 * of_fingerprint),
        "sdk_age_days": dice.poisson(90 + 20 * invalid),
        "visible_ratio": np.round(dice.random(n), 3),
        "visible_ms": dice.integers(0, 4_000, n),
        "publisher": np.array([f"publisher-{one}" for one in dice.integers(0, 25, n)], object),
        "user": np.array([f"{one:024x}" for one in people], object),
        "device": np.array([f"{one:024x}" for one in people + (1 << 40)], object),
    }


def _decided(plain, time, cause, claims, propensity):
    rendered, scored, deduped = plain
    claim = replace(
        rendered, cause=cause, served_at=time - 5 * SECOND, event_at=time, received_at=time + SECOND, **claims
    )
    cut = replace(deduped.cut, event_at=time, publisher=claim.publisher)
    answer = replace(deduped, cause=cause, cut=cut, decided_at=time + SECOND)
    return claim, replace(scored, propensity=propensity), answer


def _labels(dice, time, is_invalid):
    for source, (share, label, delay) in SOURCES.items():
        if (label is Label.INVALID) is is_invalid and dice.random() < share:
            at = time + SECOND + int(dice.exponential(delay))
            yield a_label(source, label, at, cause=UUID(int=int(dice.integers(1 << 60))))
