"""Are the books right? Recomputes I1-I4 from ledger, ClickHouse, and what clients were told."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from commands.feedback_books import lost_feedback
from commands.feedback_postgres import PostgresFeedback
from commands.gate_postgres import PostgresHolding
from commands.quarantine import Held
from commands.shelter_postgres import PostgresShelter
from commands.shelter_store import Counts
from commands.spool_census import Spooled, take_spooled
from domain.reasons import Reason
from domain.render import Kind
from domain.sequences import STREAM_PREFIX
from domain.vocabulary import DataSet
from ledger.census import Census, take_census
from ledger.postgres_connection import PostgresConnection
from ledger.store import READ_MAX, EventStore
from ml.traffic.tally import Tally
from projections.engine import Client
from projections.verify import Verification, verify
from service.clock import now_ms
from service.reader import Desk
from service.settings import Settings
from service.spooling import spool_dir
from service.wiring import database_url, open_store

LISTED_MAX = 20
NOTHING_SPOOLED = Spooled()
NOTHING_SHELTERED = Counts()
_SETTLED_AFTER_S = 2.5
"""Longer than the gate waits between two looks at parked views."""

_STILL_WITHIN_S = 60.0

_TOTALS = """
select toString(data_set), currency, sum(gross), sum(net), sum(givt), sum(sivt), sum(undecided), sum(billable_micros)
from report_hour_{generation:d} where data_set = %(data_set)s group by data_set, currency
"""


class Books(Struct, frozen=True, kw_only=True):
    """What ClickHouse has of one data set, and which invariants hold; `problems` says where one does not."""

    gross: int
    net: int
    givt: int
    sivt: int
    undecided: int
    billable_micros: dict[str, int]
    impressions: int
    through: int
    invariants: dict[str, bool]
    problems: list[str]


async def check_books(settings: Settings, tally: Tally | None = None, data_set: DataSet = DataSet.LIVE) -> Books:
    """
    Wait until the desk has shown everything and nothing more comes, then compare. Without *tally* I1 is not asked for.

    Raises:
        TimeoutError: the desk did not catch up, or somebody goes on sending.
        LedgerUnavailable, ProjectionError: a store did not answer.
    """
    store = open_store(settings)
    database = PostgresConnection(database_url(settings), deadline_s=10.0)
    try:
        async with Desk(settings) as desk:
            client = await desk.tables_when_up()
            verification, rows = await _compare(desk, store, client, data_set)
        now = now_ms()
        held = await PostgresHolding(database).count(now)
        sheltered = await PostgresShelter(database).count(now)
        problems = _problems(verification)
        if tally is not None:
            spooled = await take_spooled(spool_dir(settings), store)
            census = await take_census(store)
            problems["I1"] = unkept(tally, census, held, spooled, sheltered)
            problems["I1"] += await lost_feedback(PostgresFeedback(database), census.labels)
    finally:
        await store.close()
        await database.close()
    sums = Counter[str]()
    for row in rows:
        sums.update(dict(zip(("gross", "net", "givt", "sivt", "undecided"), map(int, row[2:7]), strict=True)))
    if sums["gross"] != sums["net"] + sums["givt"] + sums["sivt"] + sums["undecided"]:
        problems["I3"].append(f"gross is not the sum of its parts: {dict(sums)}")
    return Books(
        gross=sums["gross"],
        net=sums["net"],
        givt=sums["givt"],
        sivt=sums["sivt"],
        undecided=sums["undecided"],
        billable_micros={str(row[1]): int(row[7]) for row in rows},
        impressions=verification.impressions,
        through=verification.through,
        invariants={name: not found for name, found in sorted(problems.items())},
        problems=[f"{name}: {what}" for name, found in sorted(problems.items()) for what in found][:LISTED_MAX],
    )


async def _compare(
    desk: Desk, store: EventStore, client: Client, data_set: DataSet
) -> tuple[Verification, Sequence[Sequence[Any]]]:
    """
    Compare when nothing moves: views that waited and repeats that were counted are written a little later.

    Counts of missing numbers go on for an hour; the comparison leaves out those that come after its position.
    """
    async with asyncio.timeout(_STILL_WITHIN_S):
        while True:
            await asyncio.sleep(_SETTLED_AFTER_S)
            known = await desk.caught_up(store)
            verification = await verify(store, client, known.generation, known.position)
            sql = _TOTALS.format(generation=known.generation)
            found = await asyncio.to_thread(client.query, sql, {"data_set": data_set.value})
            later = await store.read_all(known.position, READ_MAX)
            if all(str(commit.stream).startswith(STREAM_PREFIX) for commit in later):
                return verification, found.result_rows


def _problems(verification: Verification) -> dict[str, list[str]]:
    problems: dict[str, list[str]] = {"I2": [], "I3": [], "I4": []}
    for broken in verification.broken:
        problems[broken.invariant].append(broken.where)
    problems["I4"] += [
        f"{one.table} {one.campaign} {one.metric}: ledger {one.ledger}, table {one.found}"
        for one in verification.differences
    ]
    return problems


def unkept(
    tally: Tally,
    census: Census,
    held: Held,
    spooled: Spooled = NOTHING_SPOOLED,
    sheltered: Counts = NOTHING_SHELTERED,
) -> list[str]:
    """
    Say what was answered and is not kept.

    Renders with a decision stand in the ledger once each. What is only counted is counted per answer, so that a
    retried one may be counted more often than its event was sent. What was replayed out of quarantine was answered as
    quarantined, and has moved: it stands in the ledger, or is parked, and no longer waits. What was answered out of the
    spool may turn out to be a reused event id. What was deferred was not taken, but may have come again.

    What is sheltered was answered as decided, views too, and stands in the shelter's books, also when its home has
    taken it; there it has arrived, whoever had answered it.
    """
    answered = Counter[tuple[Kind, str]]()
    for row in tally.rows:
        answered[row.kind, row.answer.status] += row.events
    decided = answered[Kind.RENDER, "decided"] + answered[Kind.VIEW, "decided"]
    views = answered[Kind.VIEW, "recorded"] + answered[Kind.VIEW, "parked"]
    refused = sum(count for (_, status), count in answered.items() if status == "refused")
    quarantined = sum(count for (_, status), count in answered.items() if status == "quarantined")
    deferred = sum(count for (_, status), count in answered.items() if status == "deferred")
    later = tally.unanswered + held.moved + deferred + sheltered.arrived
    kept_views = census.views + held.parked + spooled.views
    kept_renders = census.renders + spooled.renders
    reused = sum(row.events for row in tally.rows if row.answer.reason == Reason.EVENT_ID_REUSED)
    once_more = census.repeats + max(0, held.reused - reused) + sheltered.kept
    checks = [
        (
            kept_renders <= decided + later and decided <= kept_renders + once_more,
            (
                f"{decided} decided, {held.moved} moved, {census.renders} ledgered, {census.repeats} repeats, "
                f"{spooled}, {sheltered}"
            ),
        ),
        (
            kept_views <= views + later and views <= kept_views + census.unmoved,
            f"{views} views, {census.views} in the ledger, {census.unmoved} idle, {held.parked} parked, {spooled}",
        ),
        (
            refused <= sum(census.refused.values()) + spooled.refused,
            f"{refused} refused, {census.refused} counted, {spooled.refused} spooled",
        ),
        (
            quarantined <= held.waiting + held.expired + held.moved + spooled.bodies,
            f"{quarantined} quarantined, kept: {held}, {spooled.bodies} spooled",
        ),
        (tally.disagreements == 0, f"{tally.disagreements} retries got another answer than at first"),
    ]
    return [what for good, what in checks if not good]
