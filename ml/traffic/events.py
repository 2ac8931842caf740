"""What a client is given to send, and what is true of it; the two never travel together."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.reasons import Reason
from domain.render import Kind, Render


class Answer(Struct, frozen=True):
    """
    What the gate answered about one event; `reason` is None where nothing speaks against it.

    `spooled`: without the ledger, so that the ledger may have another answer.
    """

    status: str
    verdict: str | None
    reason: str | None
    spooled: bool = False

    @property
    def is_marked(self) -> bool:
        """Whether it says of itself that the ledger was not asked: what a bot is dropped for needs no ledger."""
        return self.spooled or self.reason == Reason.DEGRADED

    def same_as(self, other: "Answer") -> bool:
        return (self.status, self.verdict, self.reason) == (other.status, other.verdict, other.reason)


class Event(Struct, gc=False):
    """
    One event, the same however often it is sent.

    `head` is its JSON without what belongs to the transport and without the closing brace. `skew_ms` is how far the
    device's clock is ahead; None where the client does not say when it sends. `answer` is the first one it got.
    """

    event_id: UUID
    impression_id: UUID
    kind: Kind
    head: bytes
    skew_ms: int | None
    answer: Answer | None = None

    def body(self, sent_at: int, attempt: int) -> bytes:
        """Return the event as sent at *sent_at* (epoch ms, true time) for the *attempt*th time, from 0."""
        if self.skew_ms is None:
            return b'%b,"attempt":%d}' % (self.head, attempt)
        return b'%b,"sent_at":%d,"attempt":%d}' % (self.head, sent_at + self.skew_ms, attempt)


class Sending(Struct, frozen=True, gc=False):
    """*event* is to be sent at *at_ms* (epoch ms), for the *attempt*th time, from 0."""

    at_ms: int
    event: Event
    attempt: int = 0


class Claims(Render, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A render as clients write it: what they do not say is not there."""


_ENCODER = msgspec.json.Encoder()


def event_of(claims: Claims, impression_id: UUID, skew_ms: int | None) -> Event:
    return Event(claims.event_id, impression_id, claims.kind, _ENCODER.encode(claims)[:-1], skew_ms)


class Truth(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What is true of one event that is sent, whoever may guess it.

    `actor` names what kind of person or bot made it, `who` which one (numbers of one run), `deed` what they did,
    `family` the one of all that is not ordinary (`ml/traffic/families.py`). `held_out`: a family that training must not
    see had a part in it. `invalid`: nobody should pay for it. `counts` tells whether it is the one event by which its
    impression should count. `duplicate_of` is the event that it repeats.
    """

    event_id: UUID
    impression_id: UUID
    at_ms: int
    kind: Kind
    actor: str
    deed: str
    family: str
    human: bool
    counts: bool
    who: int
    campaign: str
    publisher: str
    invalid: bool = False
    held_out: bool = False
    duplicate_of: UUID | None = None


TruthSink: TypeAlias = Callable[[Truth], None]


class TruthFile:
    """Writes truth as JSON lines. Nothing of the system ever opens the file."""

    LINES_BUFFERED = 2_048

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lines: list[bytes] = []

    def __call__(self, truth: Truth) -> None:
        self._lines.append(_ENCODER.encode(truth))
        if len(self._lines) >= self.LINES_BUFFERED:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._lines:
            self._file.write(b"\n".join(self._lines) + b"\n")
            self._lines.clear()
