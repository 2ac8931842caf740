"""The operator's side of the quarantine: one contract over memory and PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from gatekit import NOW

from commands.gate_postgres import PostgresHolding
from commands.holding_memory import MemoryHolding
from commands.keyring import DAY_MS
from commands.quarantine import ANY_ROOM, DROPPED_MAX, RECORD_KEPT_MS, ROOM, QuarantinedBody, Room
from commands.quarantine_entries import (
    LISTED_MAX,
    REUSED,
    EntryCode,
    EntryState,
    Group,
    SealedEntry,
    Settlement,
    Wanted,
)
from commands.quarantine_memory import MemoryQuarantine
from commands.quarantine_postgres import PostgresQuarantine
from ledger.memory import MemoryStore
from ledger.postgres_connection import PostgresConnection

TTL = 1_000


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def run(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    @asynccontextmanager
    async def stores():
        if url is None:
            holding = MemoryHolding(MemoryStore())
            yield holding, MemoryQuarantine(holding)
            return
        gates, operators = (PostgresConnection(url, deadline_s=5.0) for _ in range(2))
        try:
            yield PostgresHolding(gates), PostgresQuarantine(operators)
        finally:
            await gates.close()
            await operators.close()

    def runs(test):
        async def main():
            async with stores() as (holding, quarantine):
                await test(holding, quarantine)

        asyncio.run(main())

    return runs


def name(number):
    return f"{number:032x}"


def a_body(number, **changes):
    fields = {
        "name": name(number),
        "event_id": None,
        "code": "invalid",
        "detail": "Expected `int` >= 0",
        "path": "$.client_at",
        "size": 3,
        "received_at": NOW + number,
        "expires_at": NOW + TTL,
        "key_day": NOW // DAY_MS,
        "sealed": b"\x00sealed",
        "sdk": "ios/12.1",
        "sender": b"\x01sender",
    }
    return QuarantinedBody(**{**fields, **changes})


def wanted(**changes):
    return Wanted(**{"now": NOW, **changes})


def a_settlement(state, outcome="decided valid", fixed=("client_at", "width")):
    return Settlement(state=state, outcome=outcome, fixed=fixed, at=NOW + 500)


async def names(quarantine, **changes):
    return [int(entry.name, 16) for entry in await quarantine.entries(wanted(**changes))]


def test_what_is_kept_is_found_as_it_was_kept(run):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1), a_body(2, sender=None)], ROOM)
        found = await quarantine.find(name(1))
        assert (found.sealed, found.sender) == (b"\x00sealed", b"\x01sender")
        entry = found.entry
        assert (entry.code, entry.path, entry.detail) == ("invalid", "$.client_at", "Expected `int` >= 0")
        assert (entry.sdk, entry.size, entry.times, entry.event_id) == ("ios/12.1", 3, 1, None)
        assert (entry.received_at, entry.last_at, entry.expires_at) == (NOW + 1, NOW + 1, NOW + TTL)
        assert (entry.state, entry.outcome, entry.fixed, entry.settled_at) == (EntryState.WAITING, "", (), None)
        assert (await quarantine.find(name(2))).sender is None
        assert await quarantine.find(name(3)) is None

    run(test)


def test_what_comes_again_is_counted_also_within_one_batch(run):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1), a_body(2), a_body(1)], ROOM)
        await holding.quarantine([a_body(1, received_at=NOW + 9, detail="other", sealed=b"other")], ROOM)
        found = await quarantine.find(name(1))
        assert (found.entry.times, found.entry.received_at, found.entry.last_at) == (3, NOW + 1, NOW + 9)
        assert (found.entry.detail, found.sealed) == ("Expected `int` >= 0", b"\x00sealed")
        assert (await quarantine.find(name(2))).entry.times == 1
        await holding.quarantine([], ROOM)

    run(test)


def test_entries_are_chosen_by_time_code_and_state(run):
    async def test(holding, quarantine):
        await holding.quarantine(
            [a_body(1), a_body(2, code="not_json"), a_body(3, expires_at=NOW), a_body(4, code=REUSED)], ROOM
        )
        await quarantine.settle(name(1), a_settlement(EntryState.REPLAYED))
        assert await names(quarantine) == [4, 3, 2, 1]
        assert await names(quarantine, newest_first=False) == [1, 2, 3, 4]
        assert await names(quarantine, since=NOW + 2, until=NOW + 4) == [3, 2]
        assert await names(quarantine, codes=(EntryCode.NOT_JSON, EntryCode.EVENT_ID_REUSED)) == [4, 2]
        assert await names(quarantine, states=(EntryState.WAITING,)) == [4, 2]
        assert await names(quarantine, states=(EntryState.EXPIRED,)) == [3]
        assert await names(quarantine, states=(EntryState.REPLAYED, EntryState.SUPERSEDED)) == [1]
        assert await quarantine.waiting(NOW) == {"not_json": 1, REUSED: 1}
        assert await quarantine.waiting(NOW + TTL) == {}

    run(test)


@pytest.mark.parametrize("newest_first", [True, False])
def test_pages_neither_skip_nor_repeat_also_where_many_came_at_once(run, newest_first):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(number, received_at=NOW + number // 4) for number in range(23)], ROOM)
        seen, after = [], None
        while True:
            page = await quarantine.entries(wanted(newest_first=newest_first, after=after, limit=3))
            seen += [int(entry.name, 16) for entry in page]
            if len(page) < 3:
                break
            after = (page[-1].received_at, page[-1].name)
        assert seen == sorted(range(23), reverse=newest_first)

    run(test)


def test_floods_are_seen_as_groups_the_largest_first(run):
    async def test(holding, quarantine):
        flood = [a_body(number, sdk="ios/12.3", path="$.width") for number in range(10, 15)]
        await holding.quarantine([*flood, flood[0], a_body(1), a_body(2, code="not_json", path="$", sdk="")], ROOM)
        groups = await quarantine.groups(wanted())
        assert groups[0] == Group(
            code="invalid",
            path="$.width",
            sdk="ios/12.3",
            entries=5,
            times=6,
            first_at=NOW + 10,
            last_at=NOW + 14,
            example=name(10),
        )
        assert [group.entries for group in groups] == [5, 1, 1]
        assert await quarantine.groups(wanted(limit=1)) == groups[:1]
        assert [group.code for group in await quarantine.groups(wanted(codes=(EntryCode.NOT_JSON,)))] == ["not_json"]

    run(test)


def test_a_settled_entry_says_what_became_of_it(run):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1)], ROOM)
        settled = await quarantine.settle(name(1), a_settlement(EntryState.REPLAYED))
        assert (settled.state, settled.outcome) == (EntryState.REPLAYED, "decided valid")
        assert (settled.fixed, settled.settled_at) == (("client_at", "width"), NOW + 500)
        assert (await quarantine.find(name(1))).entry == settled
        assert await quarantine.settle(name(2), a_settlement(EntryState.REPLAYED)) is None

    run(test)


W, R, S, X = EntryState.WAITING, EntryState.REPLAYED, EntryState.SUPERSEDED, EntryState.EXPIRED


@pytest.mark.parametrize(
    ("first", "then", "ends", "told"),
    [
        (W, W, W, "then"),
        (W, R, R, "then"),
        (W, S, S, "then"),
        (R, W, R, "first"),
        (R, S, R, "first"),
        (R, R, R, "first"),
        (S, W, S, "first"),
        (S, R, R, "then"),
        (S, S, S, "first"),
        (X, W, X, ""),
        (X, R, R, "then"),
        (X, S, S, "then"),
    ],
)
def test_no_mark_undoes_a_replay(run, first, then, ends, told):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1)], ROOM)
        if first is X:
            await holding.drop_expired(NOW + TTL, 0)
        else:
            await quarantine.settle(name(1), a_settlement(first, "first"))
        settled = await quarantine.settle(name(1), a_settlement(then, "then"))
        assert (settled.state, settled.outcome) == (ends, told)

    run(test)


def test_of_what_is_cleared_away_the_entry_stays_with_its_state(run):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1), a_body(2)], ROOM)
        await quarantine.settle(name(1), a_settlement(EntryState.REPLAYED))
        assert await holding.drop_expired(NOW + TTL, 0) == 2
        for number, state in ((1, EntryState.REPLAYED), (2, EntryState.EXPIRED)):
            found = await quarantine.find(name(number))
            assert found == SealedEntry(found.entry, None, None)
            assert found.entry.state is state

    run(test)


def test_however_much_is_to_be_cleared_away_each_call_takes_a_part_of_it(run):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(number) for number in range(DROPPED_MAX + 3)], ROOM)
        assert [await holding.drop_expired(NOW + TTL, 0) for _ in range(3)] == [DROPPED_MAX, 3, 0]
        assert (await holding.count(NOW)).expired == DROPPED_MAX + 3
        later = NOW + TTL + RECORD_KEPT_MS
        assert [await holding.drop_expired(later, 0) for _ in range(3)] == [DROPPED_MAX, 3, 0]
        assert await quarantine.find(name(1)) is None

    run(test)


@pytest.mark.parametrize("is_cleared", [False, True])
def test_what_comes_again_after_its_time_was_up_is_kept_anew_as_received_when_it_first_was(run, is_cleared):
    async def test(holding, quarantine):
        await holding.quarantine([a_body(1), a_body(2)], ROOM)
        await quarantine.settle(name(2), a_settlement(EntryState.REPLAYED))
        if is_cleared:
            await holding.drop_expired(NOW + TTL, 0)
        later = {"received_at": NOW + TTL, "expires_at": NOW + 2 * TTL, "sealed": b"anew", "code": "not_json"}
        await holding.quarantine([a_body(1, **later), a_body(2, **later)], ROOM)
        found = await quarantine.find(name(1))
        assert (found.sealed, found.entry.code, found.entry.state) == (b"anew", "not_json", EntryState.WAITING)
        assert (found.entry.received_at, found.entry.last_at, found.entry.times) == (NOW + 1, NOW + TTL, 2)
        assert found.entry.expires_at == NOW + 2 * TTL
        replayed = await quarantine.find(name(2))
        assert (replayed.entry.state, replayed.entry.times) == (EntryState.REPLAYED, 2)
        assert replayed.sealed != b"anew"

    run(test)


def test_a_question_without_end_is_refused():
    for limit in (0, LISTED_MAX + 1):
        with pytest.raises(ValueError, match="is not in 1 to 1000"):
            wanted(limit=limit)


def test_what_there_is_no_room_for_is_named_and_what_is_here_needs_none(run):
    async def test(holding, quarantine):
        room = Room(bodies=2)
        assert await holding.quarantine([a_body(1), a_body(2), a_body(3), a_body(1)], room) == {name(3)}
        assert await holding.quarantine([a_body(4), a_body(2)], room) == {name(4)}
        assert await names(quarantine) == [2, 1]
        assert (await quarantine.find(name(2))).entry.times == 2
        assert await holding.quarantine([a_body(3)], ANY_ROOM) == set()

    run(test)


def test_bodies_have_room_in_bytes_which_is_free_again_when_they_are_gone(run):
    async def test(holding, quarantine):
        large = {"sealed": b"x" * 60}
        room = Room(body_bytes=100)
        assert await holding.quarantine([a_body(1, **large), a_body(2, **large)], room) == {name(2)}
        assert await holding.quarantine([a_body(1, **large)], room) == set()
        await quarantine.settle(name(1), a_settlement(EntryState.REPLAYED))
        assert await holding.quarantine([a_body(2, **large)], room) == {name(2)}
        await holding.drop_expired(NOW + TTL, 0)
        assert await holding.quarantine([a_body(2, **large)], room) == set()
        assert await holding.quarantine([a_body(3, **large)], room) == {name(3)}
        assert await holding.quarantine([a_body(1, **large)], ANY_ROOM) == set()

    run(test)


def test_a_body_whose_time_is_up_makes_room_for_another(run):
    async def test(holding, quarantine):
        room = Room(bodies=1)
        await holding.quarantine([a_body(1)], room)
        assert await holding.quarantine([a_body(2)], room) == {name(2)}
        await holding.drop_expired(NOW + TTL, 0)
        assert await holding.quarantine([a_body(2, expires_at=NOW + 2 * TTL)], room) == set()
        assert await holding.quarantine([a_body(1, received_at=NOW + TTL)], room) == {name(1)}
        assert (await quarantine.find(name(1))).entry.state is EntryState.EXPIRED

    run(test)


@pytest.mark.slow
def test_where_nobody_knows_how_much_is_kept_nothing_is_said_to_be_kept(postgres_url):
    async def main():
        connection = PostgresConnection(postgres_url, 10.0)
        await connection.fetch("delete from quarantine_room returning bodies", [])
        assert await PostgresHolding(connection).quarantine([a_body(1)], ROOM) == {name(1)}
        await connection.close()

    asyncio.run(main())


@pytest.mark.slow
def test_many_at_once_pass_the_room_by_no_more_than_they_bring_and_wait_for_nobody_for_ever(postgres_url):
    """Four gates that get the same bodies in other orders while they expire: no deadlock."""
    room = Room(bodies=50)

    async def gate(number):
        connection = PostgresConnection(postgres_url, 10.0)
        holding = PostgresHolding(connection)
        for at in range(20):
            bodies = [a_body((at * 7 + number * 3 + n) % 80, expires_at=NOW + n % 3) for n in range(20)]
            await holding.quarantine(bodies, room)
            await holding.drop_expired(NOW + at % 3, 0)
        await connection.close()

    async def main():
        await asyncio.gather(*(gate(number) for number in range(4)))
        connection = PostgresConnection(postgres_url, 10.0)
        [[bodies, size]] = await connection.fetch("select bodies, bytes from quarantine_room", [])
        counted = await connection.fetch(
            "select count(sealed), coalesce(sum(length(sealed)), 0)::bigint from quarantine", []
        )
        await connection.close()
        assert [(bodies, size)] == [tuple(row) for row in counted]
        assert 0 <= bodies <= 50 + 4 * 20

    asyncio.run(main())
