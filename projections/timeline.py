"""One impression as its stream tells it: where it stands, and every event in words. Pure; pseudonyms are left out."""

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from domain.events import (
    CorrectionKind,
    Cut,
    ImpressionAnswered,
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionLabelled,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
    ImpressionViewed,
)
from domain.ids import ImpressionId
from domain.impression import Decided, fold
from domain.standing import Standing, Uncertain
from ledger.codec import decode
from ledger.store import READ_MAX, Commit

ENTRIES_MAX = 1_000
"""Most events that are told: of a stream that has more, half are its first and half its last."""

_PSEUDONYMS = frozenset({"user", "device", "network", "session"})


class Entry(Struct, frozen=True, kw_only=True):
    """One event. `at` and `recorded_at` are epoch ms; `says` is for people, `event` is all of it."""

    position: int
    version: int
    recorded_at: int
    type: str
    at: int
    says: str
    event: dict[str, Any]


class Timeline(Struct, frozen=True, kw_only=True):
    """
    `standing` and `cut` are as the last event left them; `provisional`: it may still change by itself.

    `truncated`: some events are left out of `entries`. `incomplete`: the stream may have more than one read gives, so
    that nothing here need be the last of it.
    """

    impression_id: ImpressionId
    standing: Standing
    provisional: bool
    price_micros: int
    cut: Cut
    repeats: int
    truncated: bool
    incomplete: bool
    entries: list[Entry]


def timeline(impression: ImpressionId, commits: Sequence[Commit]) -> Timeline:
    """
    Return what the stream of *impression* tells; *commits* are its first READ_MAX, and at least one.

    Raises:
        UnreadableCommit, ImpossibleTransition: the stream is not as the rules write it.
    """
    told: list[tuple[Commit, int, ImpressionEvent]] = []
    for commit in commits:
        for version, event in enumerate(decode(commit.data), commit.version):
            assert isinstance(event, ImpressionEvent)
            told.append((commit, version, event))
    state = fold([event for _, _, event in told])
    assert isinstance(state, Decided)
    standing = state.standing
    truncated = len(told) > ENTRIES_MAX
    shown = [*told[: ENTRIES_MAX // 2], *told[-ENTRIES_MAX // 2 :]] if truncated else told
    return Timeline(
        impression_id=impression,
        standing=standing,
        provisional=isinstance(standing, Uncertain) and not standing.expired,
        price_micros=state.terms.price_micros if state.price_in_force is None else state.price_in_force.price_micros,
        cut=state.cut,
        repeats=state.repeats,
        truncated=truncated,
        incomplete=len(commits) >= READ_MAX,
        entries=[_entry(*one) for one in shown],
    )


def _entry(commit: Commit, version: int, event: ImpressionEvent) -> Entry:
    plain: dict[str, Any] = msgspec.to_builtins(event)
    return Entry(
        position=commit.position,
        version=version,
        recorded_at=commit.recorded_at,
        type=plain.pop("type"),
        at=_at(commit, event),
        says=_says(event),
        event={name: value for name, value in plain.items() if name not in _PSEUDONYMS},
    )


def _at(commit: Commit, event: ImpressionEvent) -> int:
    match event:
        case ImpressionRendered() | ImpressionLabelled():
            return event.received_at
        case ImpressionAnswered():
            return event.answered_at
        case ImpressionScored():
            return commit.recorded_at
        case ImpressionDeduped() | ImpressionViewed() | ImpressionReconciled():
            return event.decided_at
        case _:
            assert_never(event)


def _says(event: ImpressionEvent) -> str:  # noqa: C901, PLR0911 (one per event)
    match event:
        case ImpressionRendered():
            return f"A client says that ad {event.ad} was rendered on {event.surface.value} ({event.format.value})."
        case ImpressionScored():
            against = ", ".join(reason.value for reason in event.reasons) or "nothing"
            risk = "not scored" if event.risk is None else f"risk {event.risk:.3f}"
            rungs = ", ".join(rung.value for rung in (event.rung, *event.rungs))
            return f"Judged by {event.versions.pack} on rung {rungs}: {against} against it; {risk}."
        case ImpressionDeduped(before=None):
            return f"Decided: {_stands(event.after)}."
        case ImpressionDeduped(before=before, after=after) if before == after:
            return f"Rendered again ({event.renders}); nothing changes."
        case ImpressionDeduped():
            return f"It counts now: {_stands(event.after)}."
        case ImpressionViewed():
            seen = ", ".join(f"{pack} {view.value}" for pack, view in event.after.viewability.items())
            return f"Seen: {seen}; {_stands(event.after)}."
        case ImpressionReconciled(accepted=False):
            return f"A correction ({event.kind.value}) of too low authority is kept as evidence; nothing changes."
        case ImpressionReconciled():
            by = "a later render" if event.kind is CorrectionKind.EVIDENCE else _authority(event)
            return f"Corrected by {by} ({event.kind.value}): {_stands(event.after)}."
        case ImpressionLabelled():
            return f"Label {event.label.value} from {event.source.value}, weight {event.weight:g}."
        case ImpressionAnswered():
            told = " ".join(word.value for word in (event.verdict, event.reason) if word is not None)
            return f"The ledger did not answer in time: the client was told {told}. What is stored counts."
        case _:
            assert_never(event)


def _authority(event: ImpressionReconciled) -> str:
    return "nobody" if event.authority is None else event.authority.name.lower().replace("_", " ")


def _stands(standing: Standing) -> str:
    why = "" if standing.reason is None else f" ({standing.reason.value})"
    late = ", expired" if isinstance(standing, Uncertain) and standing.expired else ""
    return f"{standing.verdict.value}{why}{late}, {standing.billable_micros} micros billable"
