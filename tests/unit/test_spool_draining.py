"""Bringing in what a spool holds: interrupted, damaged, old, or by another process; nothing is lost or twice."""

from uuid import UUID

import msgspec
import pytest
from spoolkit import DEGRADED, SpoolGate, run_spool, told
from structlog.testing import capture_logs

from commands import spool_records
from commands.items import Status
from commands.spool_census import Spooled, take_spooled
from commands.spool_records import UnreadableRecord, pack, unpack
from domain.events import (
    ImpressionReconciled,
)
from domain.impression import Decided, Unseen
from domain.reasons import Reason
from domain.standing import Uncertain, Valid
from ledger import spool_frames
from ledger.spool import read_segment, segments_of
from ledger.spool_owners import DAMAGED, damaged, folders
from ledger.store import LedgerUnavailable, read_everything


def test_a_killed_gate_is_followed_by_one_that_brings_in_what_it_left(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token)
        with gate.store.away():
            await gate.send(event, b'{"broken": 1}', clients.view(token))
        gate.die()
        heir = SpoolGate(gate.root, gate.store, gate.holding_store, gate.day_keys)
        assert heir.backlog.adopt() == 1
        await heir.backlog.work()
        state = await heir.state(token.impression)
        assert isinstance(state.standing, Valid)
        assert state.standing.viewability["mrc"] == "viewable"
        assert len(heir.holding_store.bodies) == 1
        assert folders(gate.root) == [heir.owned.folder]
        [answer] = await heir.send(event)
        assert answer.reason is Reason.DEGRADED

    run_spool(test, tmp_path)


def test_a_spool_that_cannot_be_adopted_keeps_no_gate_from_its_work(tmp_path):
    async def test(gate, clients):
        foreign = gate.root / "foreign"
        (foreign / "owner").mkdir(parents=True)
        (foreign / "00000001.segment").touch()
        with capture_logs() as logs:
            assert [gate.backlog.adopt(), gate.backlog.adopt()] == [0, 0]
        assert [one["event"] for one in logs] == ["a spool cannot be adopted: make it this user's own"]

    run_spool(test, tmp_path)


def test_a_file_that_cannot_be_read_holds_up_no_other_spool(tmp_path):
    async def test(gate, clients):
        others = [SpoolGate(gate.root, gate.store, gate.holding_store, gate.day_keys) for _ in range(2)]
        (others[0].owned.folder / "00000001.segment").mkdir()
        with gate.store.away():
            await others[1].warm()
            await others[1].send(clients.render())
        for other in others:
            other.die()
        gate.backlog.adopt()
        with pytest.raises(IsADirectoryError):
            await gate.backlog.work()
        assert (gate.backlog.totals.drained, gate.backlog.orphan_segments) == (1, 1)

    run_spool(test, tmp_path)


def test_an_interrupted_draining_is_begun_again_and_ends_the_same(tmp_path):
    async def test(gate, clients):
        tokens = [clients.token() for _ in range(6)]
        with gate.store.away():
            for token in tokens:
                await gate.send(clients.render(token))
        append, calls = gate.store.append, []

        async def failing(appends, recorded_at):
            calls.append(1)
            outcomes = await append(appends, recorded_at)
            if len(calls) in {2, 5, 7}:
                raise LedgerUnavailable("the answer was lost")
            return outcomes

        gate.store.append = failing
        for _ in range(10):
            try:
                await gate.backlog.work()
                break
            except LedgerUnavailable:
                assert gate.spool.segments == 1
        for token in tokens:
            assert len(await gate.events(token.impression)) == 4
        assert (gate.spool.segments, gate.backlog.totals.drained) == (0, 6)

    run_spool(test, tmp_path)


def test_what_is_damaged_is_set_aside_and_the_rest_is_brought_in(tmp_path):
    async def test(gate, clients):
        tokens = [clients.token() for _ in range(3)]
        with gate.store.away():
            for token in tokens:
                await gate.send(clients.render(token))
        [path] = await gate.spool.seal()
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        await gate.backlog.work()
        states = [await gate.state(token.impression) for token in tokens]
        assert [isinstance(state, Decided) for state in states] == [True, False, True]
        assert gate.backlog.totals.damaged == len(damaged(gate.root)) == 1
        assert gate.spool.size == 0

    run_spool(test, tmp_path)


def test_a_segment_whose_end_is_missing_though_another_follows_is_told(tmp_path):
    async def test(gate, clients):
        tokens = [clients.token() for _ in range(2)]
        with gate.store.away():
            for token in tokens:
                await gate.send(clients.render(token))
                await gate.spool.seal()
        first, _ = await gate.spool.seal()
        third = clients.token()
        with gate.store.away():
            await gate.send(clients.render(third))
        _, second, _ = await gate.spool.seal()
        second.write_bytes(second.read_bytes()[:-5])
        await gate.backlog.work()
        assert first.exists() is False
        assert isinstance(await gate.state(tokens[1].impression), Unseen)
        assert isinstance(await gate.state(third.impression), Decided)
        assert gate.backlog.totals.damaged == 1

    run_spool(test, tmp_path)


def test_records_of_another_version_are_set_aside_not_lost(tmp_path):
    async def test(gate, clients):
        await gate.spool.write(msgspec.msgpack.encode([{"type": "later"}]))
        with gate.store.away():
            token = clients.token()
            await gate.send(clients.render(token))
        await gate.backlog.work()
        assert isinstance(await gate.state(token.impression), Decided)
        [kept] = damaged(gate.root)
        assert kept.parent.name == DAMAGED

    run_spool(test, tmp_path)
    with pytest.raises(UnreadableRecord):
        unpack(b"\xc1")
    assert [unpack(payload) for payload in pack([])] == [[]]


def test_a_batch_that_is_too_much_for_one_frame_is_kept_in_several(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_records, "FRAME_MAX", 10_000)
    monkeypatch.setattr(spool_frames, "FRAME_MAX", 10_000)

    async def test(gate, clients):
        token = clients.token()
        bodies = [b"{" + clients.random.randbytes(6_000) for _ in range(9)]
        with gate.store.away():
            answers = await gate.send(*bodies, clients.render(token), clients.view(token))
        assert [one.status for one in answers] == [Status.QUARANTINED] * 9 + [Status.DECIDED, Status.PARKED]
        [path] = segments_of(gate.owned.folder)
        assert len(read_segment(path).scan.frames) > 9
        await gate.backlog.work()
        assert len(gate.holding_store.bodies) == 9
        assert (await gate.state(token.impression)).standing.viewability["mrc"] == "viewable"
        assert (gate.spool.size, gate.backlog.totals.damaged, gate.backlog.totals.drained) == (0, 0, 11)

    run_spool(test, tmp_path)


def test_bodies_whose_key_is_destroyed_are_counted_and_gone(tmp_path):
    async def test(gate, clients):
        with gate.store.away():
            await gate.send(b'{"broken": 1}', clients.view(clients.token()))
        await gate.day_keys.destroy_due(1 << 60)
        gate.keyring._keys.clear()
        await gate.backlog.work()
        assert gate.backlog.totals.expired == 2
        assert gate.spool.size == 0

    run_spool(test, tmp_path)


def test_a_day_that_is_not_kept_ready_any_more_is_made_for_an_old_spool(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            await gate.send(clients.render(token))
        gate.store._days.clear()
        await gate.backlog.work()
        assert isinstance(await gate.state(token.impression), Decided)

    run_spool(test, tmp_path)


def test_repeated_appends_of_one_impression_in_one_batch_keep_their_order(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            answers = await gate.send(clients.render(token), clients.render(token), clients.view(token))
        assert [told(one) for one in answers[:2]] == [DEGRADED] * 2
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert (state.repeats, isinstance(state.standing, Valid)) == (1, True)

    run_spool(test, tmp_path)


def test_what_others_decided_meanwhile_is_not_decided_again(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        done = await gate.redecider.redecide([token.impression, UUID(int=5)])
        assert (done.decided, done.undecided) == (0, 0)
        assert not any(isinstance(event, ImpressionReconciled) for event in await gate.events(token.impression))

    run_spool(test, tmp_path)


def test_what_is_uncertain_for_a_reason_that_stays_is_left_alone(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        late = clients.render(token, client_at=clients.now + 3_600_000, sent_at=None)
        with gate.store.away():
            await gate.send(late)
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert isinstance(state.standing, Uncertain)
        assert state.standing.reason is not Reason.DEGRADED

    run_spool(test, tmp_path)


def test_the_census_counts_each_spooled_event_once_and_not_what_the_ledger_has(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        first, second = clients.render(token), clients.render(token)
        with gate.store.away("after"):
            await gate.send(first)
        with gate.store.away():
            await gate.send(second, clients.view(token))
        assert await take_spooled(gate.root, gate.store) == Spooled(renders=1, views=1)
        assert sum([1 async for _ in read_everything(gate.store)]) == 1

    run_spool(test, tmp_path)
