"""Reading everything in order: pages, the head, and a subscription that goes on after failures."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from enum import Enum, auto
from typing import Any

from ledger.eventstoredb_client import CallFailed, Failure, event_of, is_caught_up, read_all, subscribe_all
from ledger.eventstoredb_connection import Connection, events, responses, within
from ledger.eventstoredb_layout import Gatherer, Names, Written, ends_commit, is_within_commit
from ledger.store import Commit

_PROGRESS_EVERY = 256


class Mark(Enum):
    """What a subscription says beside commits."""

    CAUGHT_UP = auto()


class _Within(Exception):
    """A read began in the middle of a commit."""


class Everything:
    """All commits of a namespace, in order of position. *deadline_s* is how long nothing may come."""

    def __init__(self, connection: Connection, names: Names, deadline_s: float) -> None:
        self._connection = connection
        self._names = names
        self._deadline_s = deadline_s

    async def head(self) -> int:
        """Return the position of the last commit, 0 if there is none."""
        async with self._connection.use() as node:
            request = read_all(self._names.pattern(), None, backwards=True)
            async with aclosing(events(node, request)) as found:
                async for event in found:
                    if ends_commit(event):
                        return event.position
        return 0

    async def before_last(self, commits: int) -> int:
        """Return the position of the commit before the last *commits*, 0 without one."""
        left = commits
        async with self._patiently(read_all(self._names.pattern(), None, backwards=True)) as found:
            async for event in found:
                if ends_commit(event):
                    if left == 0:
                        return event.position
                    left -= 1
        return 0

    async def page(self, after: int, limit: int, prefix: str = "") -> list[Commit]:
        """
        Return up to *limit* commits after *after*, which need not be the position of one.

        Only those of streams that begin with *prefix*; the server leaves out the others.
        """
        pattern = self._names.pattern(prefix)
        try:
            return await self._page(pattern, after, after, limit)
        except (CallFailed, _Within) as error:
            if isinstance(error, CallFailed) and error.failure is not Failure.BAD_POSITION:
                raise
        start = await self._commit_at_or_before(after)
        return await self._page(pattern, start, after, limit, is_sure=True)

    async def _page(self, pattern: str, start: int, after: int, limit: int, *, is_sure: bool = False) -> list[Commit]:
        """
        Return up to *limit* commits after *after*, read from *start*, which *is_sure* to be that of a commit.

        Raises:
            _Within: it is not.
        """
        commits: list[Commit] = []
        is_sure = is_sure or start == 0
        gatherer = Gatherer(self._names)
        async with self._patiently(read_all(pattern, start or None)) as found:
            async for event in found:
                # A position includes what is there, and that was handled.
                if event.position <= start:
                    continue
                if not is_sure and is_within_commit(event):
                    raise _Within
                is_sure = True
                commit = gatherer.add(event)
                if commit is None or commit.position <= after:
                    continue
                commits.append(commit)
                if len(commits) == limit:
                    break
        return commits

    async def _commit_at_or_before(self, position: int) -> int:
        """Return the position of the last commit up to *position*; the server reads from positions of events only."""
        async with self._patiently(read_all(self._names.pattern(), None, backwards=True)) as found:
            async for event in found:
                if event.position <= position and ends_commit(event):
                    return event.position
        return 0

    @asynccontextmanager
    async def _patiently(self, request: Any) -> AsyncIterator[AsyncIterator[Written]]:
        """Yield the events that answer *request*; `TimeoutError` once nothing came for the time of a call."""
        clock = asyncio.get_running_loop().time
        async with (
            self._connection.use() as node,
            asyncio.timeout(self._deadline_s) as patience,
            aclosing(events(node, request)) as found,
        ):

            async def watched() -> AsyncGenerator[Written, None]:
                seen = 0
                async for event in found:
                    yield event
                    seen += 1
                    if seen % _PROGRESS_EVERY == 0:
                        patience.reschedule(clock() + self._deadline_s)

            async with aclosing(watched()) as watching:
                yield watching

    async def follow(self, after: int) -> AsyncGenerator[Commit | Mark, None]:
        """
        Yield the commits after *after*, those to come too, and `Mark.CAUGHT_UP` whenever nothing is left for now.

        Goes on after a failure where it was, which is the last commit that it yielded. Never where a checkpoint of the
        server was: at the tail that is the position of the commit that comes next, and resuming there would miss it.

        Raises:
            LedgerUnavailable: the server could not be had in the time that a call may take.
        """
        start = await self._start(after) if after else 0
        while True:
            try:
                async with aclosing(self._follow_once(start)) as found:
                    async for one in found:
                        if isinstance(one, Commit):
                            start = one.position
                        yield one
            except CallFailed as error:
                await within(self._deadline_s, self.head)
                if error.failure is Failure.BAD_POSITION:
                    start = await self._start(start)

    async def _start(self, after: int) -> int:
        return await within(self._deadline_s, lambda: self._commit_at_or_before(after), patient=True)

    async def _follow_once(self, start: int) -> AsyncGenerator[Commit | Mark, None]:
        gatherer = Gatherer(self._names)
        request = subscribe_all(self._names.pattern(), start or None)
        async with self._connection.use() as node, aclosing(responses(node, request)) as found:
            async for response in found:
                event = event_of(response)
                if event is not None and (commit := gatherer.add(event)) is not None:
                    yield commit
                elif is_caught_up(response):
                    yield Mark.CAUGHT_UP
        raise CallFailed(Failure.AWAY, "the server ended the subscription")
