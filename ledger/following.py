"""
Following the ledger: each follower takes every commit once, in order, and keeps by itself how far it is.

A follower keeps what it made of a page and its checkpoint at once or not at all. So several processes may follow at
once, be killed anywhere, and leave nothing out and nothing twice. A page is read and decoded once for all of them.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from domain.events import ImpressionEvent
from domain.ids import ImpressionId
from ledger.codec import decode_readable
from ledger.plain import PlainRender, plain_render
from ledger.store import Commit, EventStore


class Seen(Struct, frozen=True, gc=False):
    """A commit of an impression's stream, and its events; None where they cannot be read."""

    commit: Commit
    events: tuple[ImpressionEvent, ...] | None

    @property
    def impression(self) -> ImpressionId:
        assert not isinstance(self.commit.stream, str)
        return self.commit.stream


class Plain(Struct, frozen=True, gc=False):
    """A plain commit (`ledger/plain.py`), and what it decides."""

    commit: Commit
    render: PlainRender


class Followed(Struct, frozen=True):
    """How far a follower is: it has every commit up to *position*, and all that was recorded before *at* (epoch ms)."""

    position: int = 0
    at: int = 0


class Page(Struct, frozen=True, kw_only=True):
    """What came after position *after*, up to *through*: plain commits, in *seen* others of impressions' streams."""

    after: int
    through: int
    at: int
    seen: Sequence[Seen] = ()
    plain: Sequence[Plain] = ()

    def beyond(self, position: int) -> "Page":
        """Return the part of the page after *position*, which lies in it."""
        if position == self.after:
            return self
        seen = [one for one in self.seen if one.commit.position > position]
        plain = [one for one in self.plain if one.commit.position > position]
        return Page(after=position, through=self.through, at=self.at, seen=seen, plain=plain)


class Follower(Protocol):
    """Calls raise `LedgerUnavailable` if a store does not answer; nothing is lost by trying again."""

    async def followed(self) -> Followed: ...

    async def take(self, page: Page) -> None:
        """Take *page* if it begins where this follower is; whole, with its checkpoint, or not at all."""


async def advance(store: EventStore, followers: Sequence[Follower], *, limit: int, clock: Callable[[], int]) -> int:
    """
    Have *followers* take up to *limit* commits that one of them lacks; return how many those were.

    Each takes a page after those before it in the list: what they make of it is there when its own turn comes.
    *clock* gives epoch ms.

    Raises:
        LedgerUnavailable: a store did not answer; nothing is lost by trying again.
        ValueError: *limit* is no read's.
    """
    after = min([(await one.followed()).position for one in followers])
    asked_at = clock()
    commits = await store.read_all(after, limit)
    at = asked_at if len(commits) < limit else max(commit.recorded_at for commit in commits)
    page = _page(after, commits, at)
    for one in followers:
        position = (await one.followed()).position
        if after <= position <= page.through:
            await one.take(page.beyond(position))
        if (await one.followed()).position < page.through:
            break  # another process is at it; those that build on this one wait for it
    return len(commits)


def _page(after: int, commits: Sequence[Commit], at: int) -> Page:
    seen: list[Seen] = []
    plain: list[Plain] = []
    for commit in commits:
        if isinstance(commit.stream, str):
            continue
        if (render := plain_render(commit)) is not None:
            plain.append(Plain(commit, render))
        else:
            seen.append(Seen(commit, decode_readable(commit.data)))
    return Page(after=after, through=commits[-1].position if commits else after, at=at, seen=seen, plain=plain)
