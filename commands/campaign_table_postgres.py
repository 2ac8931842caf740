"""The list of campaigns on PostgreSQL."""

from collections.abc import Sequence

import msgspec

from commands.campaign_table import check_page
from domain.campaign import Campaign
from ledger.postgres_arrays import ByteaArray, IntArray, TextArray
from ledger.postgres_connection import PostgresConnection

_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Campaign).decode
_ROWS = "select i, v, a, d from unnest(%s, %s, %s, %s) as r(i, v, a, d) order by i"
_PUT = f"""
with put as (
    insert into campaigns as c (id, version, advertiser, data) {_ROWS}
    on conflict (id) do update
    set version = excluded.version, advertiser = excluded.advertiser, data = excluded.data
    where c.version < excluded.version
)
update campaigns_through set position = greatest(position, %s) returning position
"""  # noqa: S608 (constants of our own)
_REPLACE = f"""
with gone as (delete from campaigns where id = any(%s))
insert into campaigns (id, version, advertiser, data) {_ROWS}
on conflict (id) do update set version = excluded.version, advertiser = excluded.advertiser, data = excluded.data
returning id
"""  # noqa: S608
_PAGE = "select data from campaigns where id > %s order by id limit %s"
_PAGE_OF = "select data from campaigns where id > %s and advertiser = %s order by id limit %s"


class PostgresCampaignTable:
    """A `CampaignTable`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def through(self) -> int:
        [[position]] = await self._connection.fetch("select position from campaigns_through", [])
        return int(position)

    async def put(self, campaigns: Sequence[Campaign], through: int) -> None:
        await self._connection.fetch(_PUT, [*_columns(campaigns), through])

    async def page(self, after: str, limit: int, advertiser: str = "") -> list[Campaign]:
        check_page(limit)
        if advertiser:
            rows = await self._connection.fetch(_PAGE_OF, [after, advertiser, limit])
        else:
            rows = await self._connection.fetch(_PAGE, [after, limit])
        return [_DECODE(data) for [data] in rows]

    async def having(self, ids: Sequence[str]) -> set[str]:
        rows = await self._connection.fetch("select id from campaigns where id = any(%s)", [TextArray.of(ids)])
        return {id_ for [id_] in rows}

    async def replace(self, campaigns: Sequence[Campaign], gone: Sequence[str]) -> None:
        await self._connection.fetch(_REPLACE, [TextArray.of(gone), *_columns(campaigns)])


def _columns(campaigns: Sequence[Campaign]) -> list[bytes]:
    return [
        TextArray.of([campaign.id for campaign in campaigns]),
        IntArray.of([campaign.version for campaign in campaigns]),
        # PostgreSQL has no U+0000: of an old ledger's advertiser that has one, the rest is found, and nothing stops.
        TextArray.of([campaign.advertiser.replace("\0", "\ufffd") for campaign in campaigns]),
        ByteaArray.of([_ENCODE(campaign) for campaign in campaigns]),
    ]
