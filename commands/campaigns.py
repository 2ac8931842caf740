"""Opens and changes campaigns: reads the stream, decides, appends at the version that was read."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import cast
from zoneinfo import available_timezones

from msgspec import Struct

from domain.campaign import (
    Campaign,
    CampaignCommand,
    CampaignRefusal,
    CampaignRefused,
    CampaignState,
    OpenCampaign,
    Opened,
    decide_campaign,
    fold_campaign,
)
from domain.campaign_events import CampaignEvent
from ledger.codec import decode
from ledger.store import READ_MAX, Append, Appended, Commit, EventStore, LedgerUnavailable

STREAM_PREFIX = "campaign-"
ROUNDS_MAX = 5
"""A campaign that others keep changing is decided again this often; then the caller is told to ask again."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}", re.ASCII)


class Recorded(Struct, frozen=True):
    """The campaign as the command left it; `is_new` is false where the command came before or changed nothing."""

    campaign: Campaign
    is_new: bool


class Campaigns:
    """Handles commands about campaigns. `packs` are the viewability packs that there are, `clock` gives epoch ms."""

    def __init__(self, store: EventStore, *, packs: Iterable[str], clock: Callable[[], int]) -> None:
        self._store = store
        self._packs = frozenset(packs)
        self._clock = clock

    async def handle(self, id_: str, command: CampaignCommand) -> Recorded:
        """
        Do *command* on the campaign *id_*; a command that came before is answered as it was then.

        Raises:
            CampaignRefused: it cannot be done; nothing was changed.
            LedgerUnavailable: it may have been done; sending the same command again is safe.
        """
        self._check(id_, command)
        stream = stream_of(id_)
        for _ in range(ROUNDS_MAX):
            events = await self._events(stream)
            state = fold_campaign(id_, events)
            new = decide_campaign(state, command)
            if not new:
                return Recorded(_as_it_was(id_, events, state, command), is_new=False)
            append = Append(stream=stream, expected=len(events), cause=command.cause, digest=command.digest, events=new)
            [outcome] = await self._store.append([append], self._clock())
            if isinstance(outcome, Appended):
                return Recorded(_campaign(fold_campaign(id_, new, state)), is_new=True)
        raise LedgerUnavailable("the campaign kept changing")

    async def read(self, id_: str) -> Campaign | None:
        """
        Return the campaign *id_* as the ledger has it, None if nobody has opened it.

        Raises:
            LedgerUnavailable: the store did not answer.
        """
        state = fold_campaign(id_, await self._events(stream_of(id_)))
        return state.campaign if isinstance(state, Opened) else None

    async def _events(self, stream: str) -> tuple[CampaignEvent, ...]:
        commits = (await self._store.read_streams([stream], READ_MAX)).get(stream, [])
        return events_of(commits)

    def _check(self, id_: str, command: CampaignCommand) -> None:
        """Refuse what only data outside of the domain tell: names, time zones, packs."""
        if not _ID.fullmatch(id_):
            raise CampaignRefused(
                CampaignRefusal.BAD_NAME, "an id is 1 to 128 letters, digits and . _ : ~ -, and begins with one of them"
            )
        if not isinstance(command, OpenCampaign):
            return
        if command.time_zone not in _time_zones():
            raise CampaignRefused(CampaignRefusal.UNKNOWN_TIME_ZONE, "time_zone is no name of the IANA database")
        if command.viewability_pack not in self._packs:
            known = ", ".join(sorted(self._packs))
            raise CampaignRefused(CampaignRefusal.UNKNOWN_PACK, f"viewability_pack is none of {known}")


def stream_of(id_: str) -> str:
    return f"{STREAM_PREFIX}{id_}"


def id_of(stream: object) -> str | None:
    """Return whose stream it is, None if it is no campaign's."""
    if isinstance(stream, str) and stream.startswith(STREAM_PREFIX):
        return stream.removeprefix(STREAM_PREFIX)
    return None


def events_of(commits: Sequence[Commit]) -> tuple[CampaignEvent, ...]:
    """Return the events of a campaign's *commits*; raises `UnreadableCommit` on damaged ones."""
    return tuple([cast("CampaignEvent", event) for commit in commits for event in decode(commit.data)])


def _as_it_was(id_: str, events: Sequence[CampaignEvent], state: CampaignState, command: CampaignCommand) -> Campaign:
    """The first answer again, where the command came before."""
    assert isinstance(state, Opened)
    known = state.absorbed.get(command.cause)
    return state.campaign if known is None else _campaign(fold_campaign(id_, events[: known.version]))


def _campaign(state: CampaignState) -> Campaign:
    assert isinstance(state, Opened)
    return state.campaign


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())
