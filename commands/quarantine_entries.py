"""What is in quarantine, one entry per body: its state, how entries are asked for, and why one cannot be replayed."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

LISTED_MAX = 1_000
"""Most entries or groups in one answer."""

REUSED = "event_id_reused"
"""The code of a body whose event id came before with another content."""


class EntryCode(StrEnum):
    """What keeps a body from being read."""

    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    INVALID = "invalid"
    FORBIDDEN = "forbidden"
    UNOPENABLE = "unopenable"
    EVENT_ID_REUSED = REUSED


class EntryState(StrEnum):
    WAITING = "waiting"
    REPLAYED = "replayed"
    """It went through the gate with a fix, and has its answer there."""
    SUPERSEDED = "superseded"
    """Its event id has been answered with another content meanwhile: the client sent it again itself."""
    EXPIRED = "expired"
    """Its time was up before anybody replayed it; the body is gone."""


class Entry(Struct, frozen=True, kw_only=True):
    """
    One body in quarantine, without the body. Times are epoch ms; `times` is how often it came, `last_at` the last time.

    `fixed` names the fields that the replay changed, `outcome` says how it, or the last attempt, was answered.
    """

    name: str
    event_id: UUID | None
    code: str
    detail: str
    path: str
    sdk: str
    size: int
    times: int
    received_at: int
    last_at: int
    expires_at: int
    key_day: int
    state: EntryState
    outcome: str = ""
    fixed: tuple[str, ...] = ()
    settled_at: int | None = None


class SealedEntry(Struct, frozen=True):
    """An entry with its sealed body and sender; both are None once its time is up, the sender also of old entries."""

    entry: Entry
    sealed: bytes | None
    sender: bytes | None


class Group(Struct, frozen=True, kw_only=True):
    """So many entries have this code at this path from this SDK; `times` is how often their bodies came in all."""

    code: str
    path: str
    sdk: str
    entries: int
    times: int
    first_at: int
    last_at: int
    example: str


class Wanted(Struct, frozen=True, kw_only=True):
    """
    Which entries, as of `now` (epoch ms). Empty `codes` and `states` mean all; `after` is the last entry that was seen.

    Raises:
        ValueError: `limit` is not in 1 to LISTED_MAX.
    """

    now: int
    since: int = 0
    until: int = (1 << 63) - 1
    codes: tuple[EntryCode, ...] = ()
    states: tuple[EntryState, ...] = ()
    newest_first: bool = True
    after: tuple[int, str] | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LISTED_MAX:
            raise ValueError(f"limit {self.limit} is not in 1 to {LISTED_MAX}")


class Settlement(Struct, frozen=True, kw_only=True):
    """What became of an attempt to replay. `state` WAITING: nothing but that it was tried. `at` is epoch ms."""

    state: EntryState
    outcome: str
    fixed: tuple[str, ...]
    at: int


class QuarantineStore(Protocol):
    """The operator's side of the quarantine. Every method raises `LedgerUnavailable` if the store does not answer."""

    async def entries(self, wanted: Wanted) -> list[Entry]:
        """Return the entries that are *wanted*, by the time and name of their receipt."""

    async def groups(self, wanted: Wanted) -> list[Group]:
        """Return the *wanted* entries by code, path and SDK, the largest groups first; `after` means nothing here."""

    async def find(self, name: str) -> SealedEntry | None:
        """Return entry *name* with what is sealed of it."""

    async def settle(self, name: str, settlement: Settlement) -> Entry | None:
        """
        Write down what became of a replay, and return the entry as it then stands, None if there is none.

        A replayed entry stays as it is; a superseded one becomes replayed, for of two attempts at once the one that
        was refused may be written down first.
        """

    async def waiting(self, now: int) -> Mapping[str, int]:
        """Return how many entries wait, by code."""


class QuarantineError(Exception):
    """What was asked of the quarantine cannot be done; the text says why, and holds nothing of the body."""


class NotInQuarantine(QuarantineError):
    """There is no entry of that name."""


class BodyGone(QuarantineError):
    """The body's time is up, or its key is destroyed: nobody can read it any more."""


class NotReplayable(QuarantineError):
    """No fix can make the entry count."""


class FixRefused(QuarantineError):
    """The fix does not make the body readable, or changes what it must not."""


def as_of(entry: Entry, now: int) -> Entry:
    """Return *entry* as it stands at *now*: what waited past its time is expired, also before it is cleared away."""
    if entry.state is EntryState.WAITING and entry.expires_at <= now:
        return replace(entry, state=EntryState.EXPIRED)
    return entry
