"""
Totals that follow from the ledger alone, by the domain's own fold: what the tables are compared with.

The ledger is read twice, once in order and once stream by stream, so that one page and the totals are in memory,
whatever its size.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias, cast

from msgspec import Struct

from domain.aggregates import AnswersCounted
from domain.events import ImpressionEvent
from domain.ids import ImpressionId
from domain.impression import Decided, fold
from domain.reasons import ReasonClass
from domain.standing import Uncertain, Viewabilities, in_gross
from ledger.codec import decode
from ledger.store import READ_MAX, Commit, EventStore
from projections.rows import spell

Key: TypeAlias = tuple[str, str, int]
"""Data set, campaign, hour (epoch ms)."""
Totals: TypeAlias = dict[Key, Counter[str]]
"""
Column of a report -> sum. Net impressions that a viewability pack says something of stand also under `net` + `spell`.
"""

HOUR_MS = 3_600_000
BROKEN_MAX = 1_000
_PAGE = 1_000


class Broken(Struct, frozen=True):
    """An invariant that does not hold: which (I2, I3), and where."""

    invariant: str
    where: str


class Folded(Struct, kw_only=True):
    impressions: int
    totals: Totals
    answers: Counter[str]
    broken: list[Broken]


async def fold_ledger(store: EventStore, through: int) -> Folded:
    """
    Return the totals of the ledger up to position *through*.

    Raises:
        LedgerUnavailable: the ledger did not answer.
        ImpossibleTransition: a stream was not written by the rules.
    """
    folded = Folded(impressions=0, totals={}, answers=Counter(), broken=[])
    async for commits in _pages(store, through):
        begun: list[ImpressionId] = []
        for commit in commits:
            if isinstance(commit.stream, str):
                _add_answers(folded.answers, commit)
            elif commit.version == 0:
                begun.append(commit.stream)
        streams = await store.read_streams(begun, READ_MAX) if begun else {}
        for impression in begun:
            _add_impression(folded, impression, [c for c in streams[impression] if c.position <= through])
    return folded


async def _pages(store: EventStore, through: int) -> AsyncIterator[list[Commit]]:
    after = 0
    while after < through:
        commits = [commit for commit in await store.read_all(after, _PAGE) if commit.position <= through]
        if not commits:
            return
        yield commits
        after = commits[-1].position


def _add_answers(answers: Counter[str], commit: Commit) -> None:
    for event in decode(commit.data):
        if isinstance(event, AnswersCounted):
            answers.update({reason.value: number for reason, number in event.refused.items()})
            answers["unmoved"] += event.unmoved


def _add_impression(folded: Folded, impression: ImpressionId, commits: Sequence[Commit]) -> None:
    events = [event for commit in commits for event in decode(commit.data)]
    state = fold(cast("list[ImpressionEvent]", events))
    if not isinstance(state, Decided):
        raise TypeError(f"the stream of {impression} ends half-way, in {type(state).__name__}")
    folded.impressions += 1
    price = state.terms.price_micros if state.price_in_force is None else state.price_in_force.price_micros
    if state.standing.billable_micros not in {0, price} and len(folded.broken) < BROKEN_MAX:
        folded.broken.append(Broken("I2", f"{impression}: billed {state.standing.billable_micros}, price {price}"))
    cut = state.cut
    key = (cut.data_set.value, cut.campaign, cut.event_at - cut.event_at % HOUR_MS)
    add_to(folded.totals.setdefault(key, Counter()), state)


def add_to(total: Counter[str], state: Decided) -> None:
    """Add what one impression counts to *total*, under the names of a report's columns."""
    standing = state.standing
    total["duplicate_renders"] += state.repeats
    total["billable_micros"] += standing.billable_micros
    total["reserved_micros"] += standing.reserved_micros
    total["gross"] += in_gross(standing)
    match standing.reason_class:
        case None:
            total["net"] += 1
            _add_views(total, standing.viewability)
        case ReasonClass.DUPLICATE:
            total["duplicates"] += 1
        case other:
            total[other.value] += 1
            total[f"{other.value}.{standing.reason}"] += 1
    if isinstance(standing, Uncertain):
        total["expired"] += standing.expired
        total["uncertain_micros"] += standing.reserved_micros


def _add_views(total: Counter[str], viewability: Viewabilities) -> None:
    if viewability:
        total[f"net{spell(dict(viewability))}"] += 1
    for pack, view in viewability.items():
        total[f"{view.value}.{pack}"] += 1
