"""
Tries two models on what the ledger has: vectors as they were logged, labels as they had matured.

A label counts that had arrived when the impression was so old that it is called mature; what comes later does not, so
that trying again a day later goes on where the day before ended. Impressions of which either model may have seen a
label in its training are left out. One device or network has one voice: labels of one come in crowds.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from domain.events import ImpressionDeduped, ImpressionEvent, ImpressionLabelled, ImpressionRendered, ImpressionScored
from domain.ids import ImpressionId
from domain.vocabulary import Label, LabelSource
from ledger.codec import decode_readable
from ledger.store import READ_MAX, Commit, EventStore
from ml.features.logged import unpack
from ml.features.schema import SCHEMA_ID
from ml.models.scorer import Scorer
from ml.registry.experiments import Judged, Trial, TrialResult
from ml.registry.side_by_side import is_models_word

MATURE_H = 72
"""The longest that an uncertain impression waits for what resolves it."""
LABELS_MAX = 200_000
"""A trial that cannot decide on so many will not decide."""
_HOUR_MS = 3_600_000
_TOGETHER = 500
_MARK = b'"ImpressionLabelled"'
_NOT_FOR_S2 = {LabelSource.DECLARED_BOT, LabelSource.SDK_BUG}
"""What the screen settles, and what no model of invalid traffic is to find."""
_SAID = {Label.INVALID: True, Label.HUMAN: False}


class Terms(Struct, frozen=True, kw_only=True):
    """
    What a trial looks at: impressions decided after the position *after* with event times from *since* on, that are
    *mature_ms* old at *now* (epoch ms). A signal that *accuses* holds a render back whatever a model says of it.
    """

    after: int
    since: int
    now: int
    accuses: Collection[str]
    mature_ms: int = MATURE_H * _HOUR_MS


class _Case(NamedTuple):
    """One impression that is in the trial: when it was, whose voice it has, its vector, and what is known of it."""

    event_at: int
    impression: ImpressionId
    voice: str
    packed: tuple[bytes, str]
    label: ImpressionLabelled
    rendered: ImpressionRendered
    is_open: bool


def terms_for(scorers: Iterable[Scorer], now: int, accuses: Collection[str], mature_h: float = MATURE_H) -> Terms:
    """Return terms under which none of *scorers* has seen anything in its training."""
    cards = [scorer.artifact.card for scorer in scorers]
    return Terms(
        after=max(card.ledger_range[1] for card in cards),
        since=max(card.trained_until for card in cards),
        now=now,
        accuses=accuses,
        mature_ms=int(mature_h * _HOUR_MS),
    )


async def try_models(
    store: EventStore, commits: AsyncIterator[Commit], champion: Scorer, other: Scorer, terms: Terms
) -> TrialResult:
    """
    Return how *other* does against *champion* on the labels in *commits*, which are all of *store* after `terms.after`.

    What cannot be read of them is left out.

    Raises:
        LedgerUnavailable: the store did not answer.
        UnreadableVector: features that were logged are damaged.
    """
    labels = await _labels(commits)
    cases: list[_Case] = []
    impressions = list(labels)
    for at in range(0, len(impressions), _TOGETHER):
        cases += await _cases(store, impressions[at : at + _TOGETHER], labels, terms)
    trial = Trial()
    for judged in _judged(_one_voice_each(cases), champion, other):
        trial.observe(judged)
    return trial.result


async def _labels(commits: AsyncIterator[Commit]) -> dict[ImpressionId, list[ImpressionLabelled]]:
    found: dict[ImpressionId, list[ImpressionLabelled]] = {}
    seen = 0
    async for commit in commits:
        if isinstance(commit.stream, str) or commit.version == 0 or _MARK not in commit.data:
            continue
        for event in decode_readable(commit.data) or ():
            if isinstance(event, ImpressionLabelled) and _is_for_s2(event):
                found.setdefault(commit.stream, []).append(event)
                seen += 1
        if seen >= LABELS_MAX:
            break
    return found


def _is_for_s2(label: ImpressionLabelled) -> bool:
    return label.label in _SAID and label.weight > 0 and label.source not in _NOT_FOR_S2


async def _cases(
    store: EventStore,
    impressions: Sequence[ImpressionId],
    labels: Mapping[ImpressionId, Sequence[ImpressionLabelled]],
    terms: Terms,
) -> list[_Case]:
    streams = await store.read_streams(impressions, READ_MAX)
    found = []
    for impression in impressions:
        first = streams[impression][0]
        if first.position > terms.after:
            case = _case(impression, decode_readable(first.data) or (), labels[impression], terms)
            if case is not None:
                found.append(case)
    return found


def _case(
    impression: ImpressionId,
    events: Sequence[ImpressionEvent],
    labels: Collection[ImpressionLabelled],
    terms: Terms,
) -> _Case | None:
    match events:
        case (ImpressionRendered() as rendered, ImpressionScored() as scored, ImpressionDeduped(), *_):
            pass
        case _:
            return None
    mature_at = rendered.event_at + terms.mature_ms
    in_time = [label for label in labels if label.received_at <= mature_at]
    is_in = terms.since <= rendered.event_at and mature_at <= terms.now
    if not in_time or not is_in or scored.versions.features != SCHEMA_ID or not scored.features:
        return None
    label = max(in_time, key=lambda one: (one.weight, one.observed_at))
    voice = rendered.device or rendered.network or rendered.user or str(impression)
    packed = (scored.features, scored.feature_status)
    is_open = is_models_word(scored.reasons) and not any(one.name in terms.accuses for one in scored.signals)
    return _Case(rendered.event_at, impression, voice, packed, label, rendered, is_open)


def _one_voice_each(cases: Iterable[_Case]) -> list[_Case]:
    """Return the first case of each voice, in order of event time, at which their maturing stands, too."""
    voices: dict[str, _Case] = {}
    for case in sorted(cases, key=lambda one: (one.event_at, one.impression)):
        voices.setdefault(case.voice, case)
    return list(voices.values())


def _judged(cases: Sequence[_Case], champion: Scorer, other: Scorer) -> Iterable[Judged]:
    for at in range(0, len(cases), _TOGETHER):
        chunk = cases[at : at + _TOGETHER]
        vectors = unpack([case.packed for case in chunk])
        bands = zip(champion.score(vectors).band.tolist(), other.score(vectors).band.tolist(), strict=True)
        for case, (ours, theirs) in zip(chunk, bands, strict=True):
            yield Judged(
                is_invalid=_SAID[case.label.label],
                weight=case.label.weight,
                champion=ours,
                other=theirs,
                is_open=case.is_open,
                price_micros=case.rendered.price_micros,
                currency=case.rendered.currency,
            )
