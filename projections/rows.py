"""
From a commit of the ledger to signed increments: pure, and in any order the sums give the report.

An event that moves an impression gives a row that takes away where it stood and one that adds where it stands. Reading
commits is the desk's largest cost in Python, so events are decoded only as far as rows need them: bodies of other
events are skipped, closed lists stay text, and what has been seen before is looked up.
"""

from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from domain.aggregates import AnswersCounted
from domain.standing import GROSS_CLASSES, Viewability
from ledger.codec import UnreadableCommit, as_written_today, decode
from ledger.store import Commit, StreamId


class Fact(NamedTuple):
    """
    One signed increment. Times are epoch ms, money micros of `currency`.

    `sign` is 1 where the impression comes to stand so, -1 where it stood so, 0 for mere repeats. Empty `reason` and
    `reason_class`: nothing speaks against it. `viewability` has a word per pack that says something, see `spell`.
    `price_micros` is what the ad instance was sold for, where a render brought it about, else 0.
    """

    position: int
    ordinal: int
    impression_id: UUID
    kind: str
    sign: int
    event_at: int
    campaign: str
    advertiser: str
    creative: str
    placement: str
    publisher: str
    surface: str
    format: str
    region: str
    currency: str
    billing_event: str
    counting_method: str
    evidence: str
    sdk: str
    country: str
    auto_refresh: bool
    data_set: str
    verdict: str
    reason: str
    reason_class: str
    viewability: str
    expired: bool
    gross: int
    duplicate_renders: int
    billable_micros: int
    reserved_micros: int
    decided_at: int
    price_micros: int


class Answered(NamedTuple):
    """What was answered without touching an impression: refused renders of one reason, or views that moved nothing."""

    position: int
    ordinal: int
    counted_at: int
    reason: str
    refused: int
    unmoved: int


class _Cut(Struct, gc=False):
    """`domain.events.Cut`, as text; its fields stand in `Fact` in the same order."""

    event_at: int
    campaign: str
    advertiser: str
    creative: str
    placement: str
    publisher: str
    surface: str
    format: str
    region: str
    currency: str
    billing_event: str
    counting_method: str
    evidence: str
    sdk: str = ""
    country: str = ""
    auto_refresh: bool = False
    data_set: str = "live"


_NOTHING_SEEN = Raw(b"{}")


class _Standing(Struct, gc=False):
    """Any `domain.standing.Standing`, flat as it is written down."""

    verdict: str
    viewability: Raw = _NOTHING_SEEN
    reason: str = ""
    reason_class: str = ""
    expired: bool = False
    billable_micros: int = 0
    reserved_micros: int = 0


class _Mover(Struct, gc=False):
    """What moves an impression from where it stood (None: nowhere yet) to where it stands."""

    cut: _Cut
    after: _Standing
    decided_at: int
    before: _Standing | None = None


class _Deduped(_Mover, tag_field="type", tag="ImpressionDeduped", gc=False):
    renders: int = 1


class _Viewed(_Mover, tag_field="type", tag="ImpressionViewed", gc=False):
    pass


class _Reconciled(_Mover, tag_field="type", tag="ImpressionReconciled", gc=False):
    pass


class _Rendered(Struct, tag_field="type", tag="ImpressionRendered", gc=False):
    """Moves nothing; of its body only the price is read."""

    price_micros: int = 0


class _Scored(Struct, tag_field="type", tag="ImpressionScored", gc=False):
    """Moves nothing; its body is skipped."""


class _Labelled(Struct, tag_field="type", tag="ImpressionLabelled", gc=False):
    """Moves nothing; its body is skipped."""


class _Answered(Struct, tag_field="type", tag="ImpressionAnswered", gc=False):
    """Moves nothing; its body is skipped."""


_Head: TypeAlias = tuple[int, int, StreamId, str]
"""What starts a fact: position, ordinal, impression, kind."""
_Event: TypeAlias = _Rendered | _Scored | _Labelled | _Answered | _Deduped | _Viewed | _Reconciled

_KINDS: dict[type[_Mover], str] = {_Deduped: "deduped", _Viewed: "viewed", _Reconciled: "reconciled"}

_decode = msgspec.json.Decoder(list[int | _Event]).decode
_GROSS = {"", *(cls.value for cls in GROSS_CLASSES)}
_SPELLED_MAX = 4_096
_VERSION_ITEMS = 1
"""Events of a commit stand after its schema version, so the first has index 1 in the array."""

_spelled: dict[bytes, str] = {}
_new = tuple.__new__


def rows(commit: Commit) -> list[Fact]:
    """
    Return the increments that *commit* adds; none if it is no impression's or moves nothing.

    Raises:
        UnreadableCommit: its bytes are damaged or written by a newer program.
    """
    if isinstance(commit.stream, str):
        return []
    data = as_written_today(commit.data)
    try:
        events = _decode(data)
    except msgspec.DecodeError as error:
        raise UnreadableCommit(f"cannot read the events at position {commit.position}: {error}") from error
    facts: list[Fact] = []
    price_micros = 0
    for index, event in enumerate(events, -_VERSION_ITEMS):
        if isinstance(event, _Mover):
            head = (commit.position, index, commit.stream, _KINDS[type(event)])
            if event.before is None:
                facts.append(_fact(head, 1, event, event.after, price_micros))
            else:
                facts += _move(head, event, event.before, price_micros) or _repeats(head, event)
        elif isinstance(event, _Rendered):
            price_micros = event.price_micros
    return facts


def answers(commit: Commit) -> list[Answered]:
    """
    Return the counts of answers in *commit*; none if it is an impression's.

    Raises:
        UnreadableCommit: its bytes are damaged or written by a newer program.
    """
    if not isinstance(commit.stream, str):
        return []
    counts: list[Answered] = []
    for index, event in enumerate(decode(commit.data)):
        if isinstance(event, AnswersCounted):
            counts += [
                Answered(commit.position, index, event.counted_at, reason.value, number, 0)
                for reason, number in event.refused.items()
            ]
            if event.unmoved:
                counts.append(Answered(commit.position, index, event.counted_at, "", 0, event.unmoved))
    return counts


def spell(viewability: dict[str, str]) -> str:
    """
    Return viewability per pack as one text: ` mrc+ mrc_cross_media- `.

    `+` is viewable, `-` is not; a pack that says nothing is absent. Every word stands between blanks, so that one is
    found by searching for it with them.
    """
    if not viewability:
        return ""
    words = [f"{pack}{'+' if view == Viewability.VIEWABLE else '-'}" for pack, view in sorted(viewability.items())]
    return f" {' '.join(words)} "


def _move(head: _Head, event: _Mover, before: _Standing, price_micros: int) -> list[Fact]:
    """Minus where the impression stood, plus where it stands; nothing if that is the same."""
    if _known(before) == _known(event.after):
        return []
    return [_fact(head, -1, event, before, price_micros), _fact(head, 1, event, event.after, price_micros)]


def _repeats(head: _Head, event: _Mover) -> list[Fact]:
    """A decision that moves nothing is evidence of repeats; a refused correction is nothing."""
    if not isinstance(event, _Deduped):
        return []
    return [_fact(head, 0, event, event.after, 0)._replace(duplicate_renders=event.renders)]


def _known(standing: _Standing) -> tuple[Any, ...]:
    money = (standing.billable_micros, standing.reserved_micros)
    return standing.verdict, standing.reason, standing.expired, money, _spell_raw(standing.viewability)


def _fact(head: _Head, sign: int, event: _Mover, standing: _Standing, price_micros: int) -> Fact:
    cls = standing.reason_class
    fields = (
        *head,
        sign,
        *astuple(event.cut),
        standing.verdict,
        standing.reason,
        cls,
        _spell_raw(standing.viewability),
        standing.expired,
        sign if cls in _GROSS else 0,
        0,
        sign * standing.billable_micros,
        sign * standing.reserved_micros,
        event.decided_at,
        price_micros,
    )
    return _new(Fact, fields)


def _spell_raw(viewability: Raw) -> str:
    written = bytes(viewability)
    spelled = _spelled.get(written)
    if spelled is None:
        if len(_spelled) >= _SPELLED_MAX:
            _spelled.clear()
        spelled = _spelled[written] = spell(msgspec.json.decode(written, type=dict[str, str]))
    return spelled
