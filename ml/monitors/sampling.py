"""
Bounded samples of the ledger: its tail, and pages of the past with the labels that their decisions have by now.

A position of the past comes from the heads that the projector writes down, since not every store can be read from a
position that was made up.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.events import Cut, ImpressionDeduped, ImpressionLabelled, ImpressionRendered, ImpressionScored
from domain.ids import ImpressionId
from domain.reasons import CLASS_OF, Reason, ReasonClass
from domain.suspicion import MODEL
from domain.vocabulary import AgentClass, DataSet, Label, LabelSource, Rung
from ledger.codec import decode_readable
from ledger.store import Commit, EventStore
from ml.features.logged import unpack
from ml.features.schema import SCHEMA_ID
from ml.monitors.maturity import Aged
from ml.monitors.rows import Rows, rows_of

PAGE_MAX = 1_000
"""Most commits of one read: whoever else reads the ledger waits as long."""
PAGE = 100
"""Neighbours in the ledger that are read together."""
STREAM_COMMITS_MAX = 50
STREAMS_AT_ONCE = 500
DECLARED = frozenset({AgentClass.DECLARED_BOT, AgentClass.NOT_A_BROWSER})
_NOMINAL = frozenset({Rung.FULL, Rung.NO_ASYNC})

PositionAt = Callable[[int], Awaitable[int]]
"""Returns the highest position that was handled at a time (epoch ms)."""


class Decision(NamedTuple):
    """The first decision about a live impression; `model` is empty where none took part."""

    impression: ImpressionId
    rendered: ImpressionRendered
    cut: Cut
    scored: ImpressionScored
    deduped: ImpressionDeduped

    @property
    def model(self) -> str:
        return self.scored.versions.model


class Tail(NamedTuple):
    """Commits up to the head, the last of which stands at `through`; `skipped`: there were more than could be read."""

    commits: list[Commit]
    through: int
    skipped: bool


async def tail(store: EventStore, after: int, commits_max: int) -> Tail:
    """
    Return the commits after *after*, of more than *commits_max* the last ones.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    start = await store.before_last(commits_max)
    commits: list[Commit] = []
    through = max(after, start)
    while len(commits) < commits_max:
        page = await store.read_all(through, min(PAGE_MAX, commits_max - len(commits)))
        if not page:
            break
        commits += page
        through = page[-1].position
    return Tail(commits, through, start > after)


def decisions_of(commits: Iterable[Commit]) -> list[Decision]:
    """Return the first decisions in *commits*, in order; what cannot be read is left out."""
    found = []
    for commit in commits:
        if isinstance(commit.stream, str) or commit.version:
            continue
        match decode_readable(commit.data):
            case (
                ImpressionRendered() as rendered,
                ImpressionScored() as scored,
                ImpressionDeduped() as deduped,
                *_,
            ) if deduped.cut.data_set is DataSet.LIVE:
                found.append(Decision(commit.stream, rendered, deduped.cut, scored, deduped))
    return found


def rows_of_decisions(decisions: Sequence[Decision]) -> Rows:
    """
    Return *decisions* side by side; those that logged no features, or those of another schema, are left out.

    Raises:
        UnreadableVector: logged features are damaged.
    """
    known = [one for one in decisions if one.scored.versions.features == SCHEMA_ID and one.scored.features]
    vectors = unpack([(one.scored.features, one.scored.feature_status) for one in known])
    risks = [np.nan if one.scored.risk is None else one.scored.risk for one in known]
    return rows_of(np.array([one.cut.surface.value for one in known], np.str_), vectors)._replace(
        sdk=np.array([one.cut.sdk for one in known], np.str_),
        risk=np.array(risks, np.float64),
        band=np.array([one.scored.band for one in known], np.str_),
        invalid_by_rules=np.array([_is_invalid_by_rules(one.deduped.reason) for one in known], np.bool_),
        grey=np.array([_is_models_grey(one) for one in known], np.bool_),
        full=np.array([one.scored.rung in _NOMINAL for one in known], np.bool_),
    )


class Past(NamedTuple):
    """Decisions of the past by the page that they were read in, and what labels of what sources each has by now."""

    decisions: list[Decision]
    page: NDArray[np.int64]
    labels: list[frozenset[LabelSource]]
    """The sources that call it invalid."""

    def of(self, model: str, sources: Sequence[LabelSource], now: int) -> Aged:
        """
        Return those that *model* scored, as they stand at *now* (epoch ms).

        What names itself a bot or has not begun is settled by that: nobody is asked for a label.
        """
        places = [at for at, one in enumerate(self.decisions) if one.model == model and _awaits_labels(one)]
        found = [self.decisions[at] for at in places]
        labelled = [[source in self.labels[at] for source in sources] for at in places]
        return Aged(
            risk=np.array([one.scored.risk for one in found], np.float64),
            age_ms=np.array([now - one.deduped.decided_at for one in found], np.float64),
            page=self.page[places],
            labelled=np.array(labelled, np.bool_).reshape(len(places), len(sources)),
        )


async def past(store: EventStore, position_at: PositionAt, times: Sequence[int]) -> Past:
    """
    Return the decisions in the pages that begin at *times* (epoch ms), each once, and their labels as of now.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    positions = sorted({await position_at(at) for at in times})
    found: dict[ImpressionId, tuple[int, Decision]] = {}
    for number, position in enumerate(positions):
        for one in decisions_of(await store.read_all(position, PAGE)):
            found.setdefault(one.impression, (number, one))
    labels = await _labels_of(store, list(found))
    return Past(
        decisions=[one for _, one in found.values()],
        page=np.array([number for number, _ in found.values()], np.int64),
        labels=[labels[impression] for impression in found],
    )


async def _labels_of(
    store: EventStore, impressions: Sequence[ImpressionId]
) -> dict[ImpressionId, frozenset[LabelSource]]:
    labels: dict[ImpressionId, frozenset[LabelSource]] = {}
    for first in range(0, len(impressions), STREAMS_AT_ONCE):
        asked = impressions[first : first + STREAMS_AT_ONCE]
        streams = await store.read_streams(asked, STREAM_COMMITS_MAX)
        for impression in asked:
            events = (event for one in streams.get(impression, ()) for event in decode_readable(one.data) or ())
            labels[impression] = frozenset(
                event.source
                for event in events
                if isinstance(event, ImpressionLabelled) and event.label is Label.INVALID
            )
    return labels


def _is_invalid_by_rules(reason: Reason | None) -> bool:
    return reason is not None and CLASS_OF[reason] is ReasonClass.GIVT


def _is_models_grey(one: Decision) -> bool:
    """A signal that accuses alone leaves it undecided too, whatever the model says."""
    return one.deduped.reason is Reason.RISK_GREY and MODEL in one.scored.pair


def _awaits_labels(one: Decision) -> bool:
    return one.scored.risk is not None and one.rendered.begun and one.rendered.agent_class not in DECLARED
