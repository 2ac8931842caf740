"""
The list of campaigns: a table that follows the ledger's `campaign-*` streams and can be rebuilt from them alone.

Every row is folded from a whole stream, so that it does not matter who writes it, how often, or in which order.
"""

from collections.abc import Sequence
from typing import Protocol

from commands.campaigns import events_of, id_of, stream_of
from commands.ledger_tails import LedgerTails
from domain.campaign import Campaign, Opened, fold_campaign
from ledger.store import READ_MAX, EventStore

PAGE_MAX = 1_000
_PAGE = 500


class CampaignTable(Protocol):
    """Rows by campaign. Every call raises `LedgerUnavailable` if the store does not answer."""

    async def through(self) -> int:
        """Return the ledger position up to which the table has everything."""

    async def put(self, campaigns: Sequence[Campaign], through: int) -> None:
        """Keep *campaigns* where they are newer than what is there; the table has everything up to *through* then."""

    async def page(self, after: str, limit: int, advertiser: str = "") -> list[Campaign]:
        """Return up to *limit* campaigns with ids over *after*, in order of id; only *advertiser*'s, if named."""

    async def having(self, ids: Sequence[str]) -> set[str]:
        """Return those of *ids* that have a row."""

    async def replace(self, campaigns: Sequence[Campaign], gone: Sequence[str]) -> None:
        """Keep *campaigns* whatever is there, and drop those called *gone*."""


class MemoryCampaignTable:
    """A `CampaignTable` in memory: the reference model."""

    def __init__(self) -> None:
        self._rows: dict[str, Campaign] = {}
        self._through = 0

    async def through(self) -> int:
        return self._through

    async def put(self, campaigns: Sequence[Campaign], through: int) -> None:
        for campaign in campaigns:
            known = self._rows.get(campaign.id)
            if known is None or known.version < campaign.version:
                self._rows[campaign.id] = campaign
        self._through = max(self._through, through)

    async def page(self, after: str, limit: int, advertiser: str = "") -> list[Campaign]:
        check_page(limit)
        rows = [row for id_, row in sorted(self._rows.items()) if id_ > after]
        return [row for row in rows if advertiser in {"", row.advertiser}][:limit]

    async def having(self, ids: Sequence[str]) -> set[str]:
        return self._rows.keys() & set(ids)

    async def replace(self, campaigns: Sequence[Campaign], gone: Sequence[str]) -> None:
        for id_ in gone:
            self._rows.pop(id_, None)
        self._rows |= {campaign.id: campaign for campaign in campaigns}


class CampaignList:
    """Keeps *table* up to the ledger."""

    def __init__(self, store: EventStore, tails: LedgerTails, table: CampaignTable) -> None:
        self._store = store
        self._tails = tails
        self._table = table

    async def follow(self) -> int:
        """
        Bring the table up to the ledger's campaigns; return the position that it has then.

        Raises:
            LedgerUnavailable: ledger or table did not answer; nothing is lost by trying again.
        """
        through = await self._table.through()
        while True:
            looked = await self._tails.campaigns(through, _PAGE)
            ids = {id_ for commit in looked.commits if (id_ := id_of(commit.stream)) is not None}
            if looked.through > through:
                through = looked.through
                await self._table.put(list((await self._read(sorted(ids))).values()), through)
            if len(looked.commits) < _PAGE:
                return through

    async def check(self, *, mend: bool = False) -> list[str]:
        """
        Return the ids of campaigns that the table has otherwise than the ledger, up to the position it has reached.

        With *mend* they are put right.

        Raises:
            LedgerUnavailable: ledger or table did not answer.
        """
        await self.follow()
        wrong = {**await self._unlike(), **await self._missing()}
        if mend:
            right = [campaign for campaign in wrong.values() if campaign is not None]
            await self._table.replace(right, [id_ for id_, campaign in wrong.items() if campaign is None])
        return sorted(wrong)

    async def _unlike(self) -> dict[str, Campaign | None]:
        """Rows that are otherwise than their stream, or that have none (None)."""
        unlike: dict[str, Campaign | None] = {}
        after = ""
        while rows := await self._table.page(after, _PAGE):
            after = rows[-1].id
            told = await self._read([row.id for row in rows])
            unlike |= {row.id: told.get(row.id) for row in rows if told.get(row.id) != row}
        return unlike

    async def _missing(self) -> dict[str, Campaign | None]:
        """Campaigns of the ledger without a row."""
        missing: dict[str, Campaign | None] = {}
        position = 0
        while commits := (await self._tails.campaigns(position, _PAGE)).commits:
            position = commits[-1].position
            opened = [id_ for commit in commits if commit.version == 0 and (id_ := id_of(commit.stream)) is not None]
            there = await self._table.having(opened)
            missing |= await self._read([id_ for id_ in opened if id_ not in there])
        return missing

    async def _read(self, ids: Sequence[str]) -> dict[str, Campaign]:
        found = await self._store.read_streams([stream_of(id_) for id_ in ids], READ_MAX)
        campaigns = {}
        for id_ in ids:
            state = fold_campaign(id_, events_of(found.get(stream_of(id_), [])))
            if isinstance(state, Opened):
                campaigns[id_] = state.campaign
        return campaigns


def check_page(limit: int) -> None:
    """Raise `ValueError` unless *limit* is in 1 to `PAGE_MAX`."""
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit {limit} is not in 1 to {PAGE_MAX}")
