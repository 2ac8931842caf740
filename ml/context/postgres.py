"""What is known of persons and publishers, on PostgreSQL."""

from collections.abc import Mapping, Sequence

import msgspec

from domain.ids import ImpressionId
from domain.vocabulary import Label, Surface
from ledger.following import Followed, Page
from ledger.postgres_arrays import BigintArray, UuidArray
from ledger.postgres_connection import PostgresConnection
from ml.context.facts import Facts
from ml.context.store import (
    COUNTED_MAX,
    HOURS_KEPT_MS,
    LABELS_KEPT_MS,
    NEXT_WITHIN_MS,
    RENDERS_KEPT_MS,
    TALLIES_MAX,
    Asked,
    Known,
)
from ml.datasets.history import HOUR_MS, HourTally, Tally

_FOLLOWED = "select position, at from ledger_followers where name = 'later'"
_TAKE = "select take_later_facts(%s, %s, %s, %s, %s, %s, %s, %s, %s::text::jsonb, %s::text::jsonb)"
# `recorded_at` stands in every condition, so that only the days in question are looked into.
_KNOWN = f"""
select n.event_at, h.renders, coalesce(l.invalid, 0), coalesce(l.human, 0)
from unnest(%(persons)s, %(recorded)s, %(positions)s, %(impressions)s) with ordinality as a(p, r, q, i, o)
left join lateral (
    select event_at from person_renders
    where person = a.p and recorded_at >= a.r and recorded_at <= least(%(at)s::bigint, a.r + {NEXT_WITHIN_MS})
        and (recorded_at, position) > (a.r, a.q)
    order by recorded_at, position limit 1
) n on true
cross join lateral (
    select count(*) as renders from (
        select from person_renders
        where person = a.p and recorded_at >= a.r and recorded_at <= least(%(at)s::bigint, a.r + {HOUR_MS})
            and (recorded_at, position) > (a.r, a.q)
        limit {COUNTED_MAX}
    ) first
) h
cross join lateral (
    select sum(trust) filter (where label = '{Label.INVALID.value}') as invalid,
        sum(trust) filter (where label = '{Label.HUMAN.value}') as human
    from (
        select label, trust from person_labels
        where person = a.p and arrived_at <= %(at)s::bigint and impression <> a.i limit {COUNTED_MAX}
    ) first
) l
order by a.o
"""  # noqa: S608 (made of our own constants, here and below)
_OTHERS = """
select l.i, r.impression
from (
    select distinct on (impression) impression as i, person from person_labels
    where impression = any(%(labelled)s) order by impression, arrived_at desc
) l
cross join lateral (
    select impression, max(recorded_at) as last from (
        select impression, recorded_at from person_renders
        where person = l.person and impression <> l.i order by recorded_at desc, position desc limit %(limit)s::bigint
    ) latest group by impression
) r
order by l.i, r.last desc, r.impression desc
"""
_TALLIES = f"""
select hour, publisher, surface, renders, clicks, repeats, measured, invisible from publisher_hours
where hour >= %s order by hour, publisher, surface limit {TALLIES_MAX}
"""  # noqa: S608
_FORGET = "select forget_later_facts(%s, %s, %s)"


class PostgresLater:
    """A `LaterStore`."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def followed(self) -> Followed:
        [row] = await self._connection.fetch(_FOLLOWED, [])
        return Followed(*row)

    async def take(self, page: Page, facts: Facts) -> bool:
        renders = facts.renders
        arrays = (
            BigintArray.of([render.person for render in renders]),
            BigintArray.of([render.recorded_at for render in renders]),
            BigintArray.of([render.position for render in renders]),
            BigintArray.of([render.event_at for render in renders]),
            UuidArray.of([render.impression for render in renders]),
        )
        labels = [label._asdict() for label in facts.labels]
        # PostgreSQL has no U+0000: a publisher of an old ledger that is called so stays unknown, and nothing stops.
        hours = [_plain(hour) for hour in facts.hours if "\0" not in hour.publisher]
        asked = [page.after, page.through, page.at, *arrays, _json(labels), _json(hours)]
        [[taken]] = await self._connection.fetch(_TAKE, asked)
        return bool(taken)

    async def known(self, asked: Sequence[Asked], at: int) -> list[Known]:
        if not asked:
            return []
        arguments = {
            "persons": BigintArray.of([one.person for one in asked]),
            "recorded": BigintArray.of([one.recorded_at for one in asked]),
            "positions": BigintArray.of([one.position for one in asked]),
            "impressions": UuidArray.of([one.impression for one in asked]),
            "at": at,
        }
        return [Known(*row) for row in await self._connection.fetch(_KNOWN, arguments)]

    async def others(self, labelled: Sequence[ImpressionId], limit: int) -> Mapping[ImpressionId, list[ImpressionId]]:
        found: dict[ImpressionId, list[ImpressionId]] = {}
        if labelled:
            rows = await self._connection.fetch(_OTHERS, {"labelled": UuidArray.of(labelled), "limit": limit})
            for impression, other in rows:
                found.setdefault(impression, []).append(other)
        return found

    async def tallies(self, first_hour: int) -> list[HourTally]:
        rows = await self._connection.fetch(_TALLIES, [first_hour])
        return [
            HourTally(hour, publisher, Surface(surface), Tally(*counts)) for hour, publisher, surface, *counts in rows
        ]

    async def forget(self, now: int) -> int:
        oldest = [now - RENDERS_KEPT_MS, now - LABELS_KEPT_MS, (now - HOURS_KEPT_MS) // HOUR_MS]
        [[gone]] = await self._connection.fetch(_FORGET, oldest)
        return int(gone)


def _plain(hour: HourTally) -> dict[str, object]:
    named = {"hour": hour.hour, "publisher": hour.publisher, "surface": hour.surface}
    return {**named, **msgspec.structs.asdict(hour.tally)}


def _json(rows: list[dict[str, object]]) -> str:
    return msgspec.json.encode(rows).decode()
