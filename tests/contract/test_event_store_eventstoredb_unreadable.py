"""What an operator buried, others wrote or a disk damaged in EventStoreDB is told when decoded and harms no other."""

import asyncio
from datetime import date
from uuid import uuid4

import pytest
from damagekit import damage_note
from esdb_double import Node, checks
from esdb_double.log import Proposed
from esdbkit import NOON, an_append, everything, followed, on_a_node, trying
from gatekit import KitGate, Minter
from spoolkit import AbsentHolding, AbsentStore, SpoolGate
from structlog.testing import capture_logs

from commands.items import Status
from commands.ledger_tails_eventstoredb import EventStoreDbTails
from commands.recall import recall
from domain.impression import Unseen
from domain.reasons import Reason
from ledger.codec import UnreadableCommit, decode, decode_impression
from ledger.store import Appended, Conflict

pytestmark = pytest.mark.slow


def name_of(stream):
    return f"ledger.impression-{stream}"


HURT = {
    "a tombstone": lambda log, name: checks.bury(log, name, checks.ANY),
    "a damaged beginning": damage_note,
    "a damaged middle": lambda log, name: damage_note(log, name, 1),
    "a damaged end": lambda log, name: damage_note(log, name, 2),
}


@pytest.fixture(params=HURT)
def hurt(request):
    return HURT[request.param]


@pytest.fixture(params=[0, 1, 2])
def hurt_event(request):
    return request.param


def test_a_stream_that_cannot_be_read_is_told_when_decoded_and_those_read_beside_it_are_whole(hurt):
    async def test(tried):
        store, appends = await tried.store(), [an_append() for _ in range(3)]
        await store.append(appends, NOON)
        hurt(tried.node.log, name_of(appends[1].stream))
        for reader in (store, await tried.store(prepared=False)):
            found = await reader.read_streams([append.stream for append in appends], 10)
            first, bad, last = (found[append.stream] for append in appends)
            assert [decode(commit.data) for commit in first + last] == [appends[0].events, appends[2].events]
            with pytest.raises(UnreadableCommit, match=str(appends[1].stream)):
                [decode_impression(commit.data) for commit in bad]
            assert {commit.stream for commit in bad} == {appends[1].stream}

    on_a_node(test)


@pytest.mark.parametrize("is_known", [True, False])
def test_an_append_to_a_tombstone_conflicts_and_those_beside_it_are_written(is_known):
    async def test(tried):
        store, begun = await tried.store(), an_append()
        await store.append([begun], NOON)
        checks.bury(tried.node.log, name_of(begun.stream), checks.ANY)
        writer = store if is_known else await tried.store(prepared=False)
        for expected in (0, 3):
            appends = [an_append(), an_append(begun.stream, expected), an_append()]
            first, bad, last = await writer.append(appends, NOON)
            assert (first, type(bad), last) == (Appended(), Conflict, Appended())
        assert [commit.count for commit in await everything(store)] == [3] * 5

    on_a_node(test)


def test_an_append_to_a_stream_whose_causes_cannot_be_read_conflicts_and_those_beside_it_are_written(hurt_event):
    async def test(tried):
        store, begun = await tried.store(), an_append()
        await store.append([begun], NOON)
        damage_note(tried.node.log, name_of(begun.stream), hurt_event)
        writer = await tried.store(prepared=False)
        again = an_append(begun.stream, 3, cause=begun.cause)
        for bad in (begun, again, an_append(begun.stream), an_append(begun.stream, 3)):
            assert await writer.append([an_append(), bad, an_append()], NOON) == [Appended(), Conflict(3), Appended()]

    on_a_node(test)


def test_of_a_stream_only_the_commit_that_is_damaged_cannot_be_read(hurt_event):
    async def test(tried):
        store, first = await tried.store(), an_append()
        appends = [first, an_append(first.stream, 3), an_append(first.stream, 6)]
        for append in appends:
            await store.append([append], NOON)
        damage_note(tried.node.log, name_of(first.stream), 3 + hurt_event)
        commits = (await store.read_streams([first.stream], 10))[first.stream]
        assert [commit.cause for commit in (commits[0], commits[-1])] == [first.cause, appends[2].cause]
        assert commits[-2].version + commits[-2].count == commits[-1].version == 6

    on_a_node(test)


def test_wherever_reading_everything_begins_the_same_commits_follow(hurt_event):
    async def test(tried):
        store, appends = await tried.store(), [an_append() for _ in range(4)]
        await store.append(appends, NOON)
        damage_note(tried.node.log, name_of(appends[1].stream), hurt_event)
        whole = await store.read_all(0, 100)
        readable = [commit.stream for commit in whole if commit.cause in {append.cause for append in appends}]
        assert readable == [append.stream for append in (appends[0], *appends[2:])]
        assert {commit.stream for commit in whole} == {append.stream for append in appends}
        assert await everything(store, page=1) == await followed(store, 0, len(whole)) == whole
        for record in tried.node.log.records:
            after = record.position
            assert await store.read_all(after, 100) == [commit for commit in whole if commit.position > after]
        for last in range(1, len(whole)):
            assert await store.read_all(await store.before_last(last), 100) == whole[-last:]

    on_a_node(test)


def test_a_stream_that_others_called_like_an_impression_is_nothing_later_of_one():
    async def test(tried):
        store, append = await tried.store(), an_append()
        await store.append([append], NOON)
        await store.append([an_append(append.stream, 3)], NOON)
        notes = [Proposed(uuid4(), "Note", "application/json", b"{}", b"{}") for _ in range(2)]
        checks.append(tried.node.log, "ledger.impression-notes", -1, notes)
        later = await EventStoreDbTails(store).later(0, 10)
        assert [commit.stream for commit in later.commits] == [append.stream]

    on_a_node(test)


@pytest.mark.parametrize("name", ["notes", "impression-notes"])
def test_a_stream_that_others_wrote_under_our_prefix_is_read_past_and_none_of_impressions(name):
    async def test(tried):
        store, appends = await tried.store(), [an_append() for _ in range(2)]
        await store.append(appends[:1], NOON)
        note = Proposed(uuid4(), "Note", "application/json", b"{}", b'{"who":"an operator"}')
        checks.append(tried.node.log, f"ledger.{name}", -1, [note])
        await store.append(appends[1:], NOON)
        first, foreign, last = await everything(store)
        assert [first.stream, foreign.stream, last.stream] == [appends[0].stream, name, appends[1].stream]
        assert [await store.before_last(1), await store.before_last(2)] == [foreign.position, first.position]
        assert await followed(store, 0, 3) == [first, foreign, last]

    on_a_node(test)


def test_a_gate_defers_what_is_about_it_and_decides_what_is_beside_it(hurt):
    async def test(tried, clients):
        gate, token = await a_gate(tried), clients.token()
        await gate.send(clients.render(token))
        hurt(tried.node.log, name_of(token.impression))
        gate.store = await tried.store(prepared=False)
        gate.restart()
        for kind in (clients.render, clients.view):
            answers = await gate.send(clients.render(), kind(token), clients.render())
            assert [answer.status for answer in answers] == [Status.DECIDED, Status.DEFERRED, Status.DECIDED]

    on_a_node_with_clients(test)


def test_a_gate_that_remembers_a_stream_defers_what_is_about_it_once_it_has_a_tombstone():
    async def test(tried, clients):
        gate, token = await a_gate(tried), clients.token()
        await gate.send(clients.render(token))
        checks.bury(tried.node.log, name_of(token.impression), checks.ANY)
        answers = await gate.send(clients.render(), clients.view(token), clients.render())
        assert [answer.status for answer in answers] == [Status.DECIDED, Status.DEFERRED, Status.DECIDED]

    on_a_node_with_clients(test)


def test_a_gate_that_starts_remembers_all_commits_but_that_one(hurt_event):
    async def test(tried, clients):
        gate, tokens = await a_gate(tried), [clients.token(placement=f"placement-{number}") for number in range(3)]
        for token in tokens:
            await gate.send(clients.render(token, user="u"))
        damage_note(tried.node.log, name_of(tokens[1].impression), hurt_event)
        gate.restart()
        await recall(gate.store, 1_000, [gate.ingest.recall])
        again = [clients.render(clients.token(placement=token.placement), user="u") for token in tokens]
        reasons = [answer.reason for answer in await gate.send(*again)]
        assert reasons == [Reason.DOUBLE_FIRE, None, Reason.DOUBLE_FIRE]

    on_a_node_with_clients(test)


def test_it_keeps_no_neighbour_in_the_spool(hurt, tmp_path):
    async def test(tried, clients):
        store = Away(await tried.store(prepared=False))
        gate = SpoolGate(tmp_path / "spool", store, AbsentHolding(store))
        await opened(gate)
        await gate.warm()
        bad, *good = (clients.token() for _ in range(100))
        await gate.send(clients.render(bad))
        hurt(tried.node.log, name_of(bad.impression))
        store.inner = await tried.store(prepared=False)
        gate.restart()
        with store.away():
            await gate.send(*map(clients.render, good[:50]), clients.render(bad), *map(clients.render, good[50:]))
        with capture_logs() as logs:
            await gate.backlog.work()
        assert Unseen not in [type(await gate.state(token.impression)) for token in good]
        assert (gate.spool.size, gate.backlog.totals.drained) == (0, 99)
        [told] = [entry for entry in logs if entry["event"] == "set aside: streams cannot be read"]
        assert list(told["streams"]) == [str(bad.impression)]

    on_a_node_with_clients(test)


class Away(AbsentStore):
    """The store *inner*, away on command."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    async def append(self, appends, recorded_at):
        self.fail("asleep")
        return await self.inner.append(appends, recorded_at)

    async def read_streams(self, streams, limit):
        self.fail("asleep")
        return await self.inner.read_streams(streams, limit)

    async def prepare_days(self, *days):
        await self.inner.prepare_days(*days)


async def a_gate(tried):
    return await opened(KitGate(await tried.store(prepared=False)))


async def opened(gate):
    await gate.open(date(2026, 9, 10), date(2026, 9, 23))
    return gate


def on_a_node_with_clients(test):
    async def main(node):
        async with trying(node) as tried:
            await test(tried, Minter())

    with Node() as node:
        asyncio.run(main(node))
