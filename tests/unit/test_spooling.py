"""Answers without a ledger, and what becomes of them once it is back."""

import asyncio
from datetime import date
from uuid import UUID

import msgspec
import pytest
from gatekit import PRICE, Minter
from spoolkit import FailingDisk, SpoolGate

from commands.activity import Conduct
from commands.items import Status
from commands.quarantine import ROOM
from commands.redecide import correction_of
from commands.spool_census import Spooled, take_spooled
from commands.spool_records import UnreadableRecord, pack, unpack
from domain.events import (
    ImpressionAnswered,
    ImpressionDeduped,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
)
from domain.impression import Decided, Unseen
from domain.reasons import Reason, Verdict
from domain.standing import Uncertain, Valid
from domain.vocabulary import Authority, OmidType, Rung, Surface
from ledger.census import take_census
from ledger.spool import SpoolDiskFull, segments_of
from ledger.spool_owners import DAMAGED, damaged, folders
from ledger.store import LedgerUnavailable, read_everything


def run(test, tmp_path, **kept):
    async def main():
        gate = SpoolGate(tmp_path / "spool", **kept)
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        await gate.warm()
        await test(gate, Minter())

    asyncio.run(main())


def told(answer):
    return answer.status, answer.verdict, answer.reason, answer.rung, answer.provisional


DEGRADED = (Status.DECIDED, Verdict.UNCERTAIN, Reason.DEGRADED, Rung.SPOOLED, True)


@pytest.mark.parametrize("mode", ["asleep", "before", "after"])
def test_a_render_is_answered_uncertain_while_the_ledger_is_away_and_valid_afterwards(tmp_path, mode):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away(mode):
            [answer] = await gate.send(clients.render(token))
        assert told(answer) == DEGRADED
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert isinstance(state.standing, Valid)
        assert state.standing.billable_micros == PRICE
        assert (gate.spool.size, await take_spooled(gate.root, gate.store)) == (0, Spooled())

    run(test, tmp_path)


def test_what_was_decided_without_the_ledger_says_so_in_the_stream_and_is_corrected_once(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token)
        with gate.store.away():
            await gate.send(event)
        await gate.backlog.work()
        rendered, scored, deduped, reconciled = await gate.events(token.impression)
        assert (scored.rung, scored.reasons) == (Rung.SPOOLED, (Reason.DEGRADED,))
        assert (deduped.verdict, deduped.reason) == (Verdict.UNCERTAIN, Reason.DEGRADED)
        assert reconciled.cause == correction_of(rendered.cause)
        assert (reconciled.authority, reconciled.asked) == (Authority.REDECISION, None)
        assert reconciled.observed_at == rendered.received_at
        again = await gate.redecider.redecide([token.impression, token.impression])
        assert (again.decided, again.undecided) == (0, 0)
        assert len(await gate.events(token.impression)) == 4
        [answer] = await gate.send(event)
        assert answer.reason is Reason.DEGRADED  # the first answer, from the stream

    run(test, tmp_path)


def test_what_was_sent_and_arrived_stands_as_it_was_sent(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token)
        with gate.store.away("after"):
            [answer] = await gate.send(event)
            assert told(answer) == DEGRADED
            [again] = await gate.send(event)
            assert told(again)[:3] == DEGRADED[:3]
        await gate.backlog.work()
        assert [type(one) for one in await gate.events(token.impression)] == [
            ImpressionRendered,
            ImpressionScored,
            ImpressionDeduped,
            ImpressionAnswered,
        ]
        assert gate.backlog.totals.already == 1
        *_, stored, note = await gate.events(token.impression)
        assert (stored.verdict, stored.cause) == (Verdict.VALID, note.of)
        assert (note.verdict, note.reason, note.answered_at) == (*DEGRADED[1:3], gate.now)
        [later] = await gate.send(event)
        assert later.verdict is Verdict.VALID  # now the answer comes from the stream

    run(test, tmp_path)


def test_a_retry_gets_the_same_answer_and_is_kept_once(tmp_path):
    async def test(gate, clients):
        token, other = clients.token(), clients.token()
        events = [clients.render(token), clients.render(token), clients.view(other)]
        with gate.store.away():
            first = await gate.send(*events)
            size = gate.spool.size
            for _ in range(3):
                assert await gate.send(*events) == first
        assert gate.spool.size == size

    run(test, tmp_path)


def test_what_speaks_against_a_render_by_itself_decides_also_without_the_ledger(tmp_path):
    async def test(gate, clients):
        bot, token = clients.token(), clients.token(surface=Surface.AUDIENCE_NETWORK)
        with gate.store.away():
            [answer] = await gate.send(clients.render(bot, agent="a bot"))
            assert told(answer) == (Status.DECIDED, Verdict.DROPPED, Reason.AGENT_DECLARED_BOT, Rung.SPOOLED, True)
            [answer] = await gate.send(clients.render(token, omid_type=OmidType.OTHER))
            assert told(answer)[1:3] == (Verdict.UNCERTAIN, Reason.OMID_UNPROVEN)
        await gate.backlog.work()
        assert (await gate.state(bot.impression)).standing.reason is Reason.AGENT_DECLARED_BOT
        assert (await gate.state(token.impression)).standing.reason is Reason.OMID_UNPROVEN

    run(test, tmp_path)


def test_another_render_of_an_impression_is_decided_again_when_the_ledger_has_a_first(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        with gate.store.away():
            [answer] = await gate.send(clients.render(token))
        assert told(answer) == DEGRADED
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert (state.repeats, state.standing.billable_micros) == (1, PRICE)
        assert (gate.backlog.totals.decided_again, gate.backlog.totals.superseded) == (1, 0)

    run(test, tmp_path)


def test_the_own_copy_is_dropped_where_the_ledger_has_the_same_event_by_another_way(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token)
        other = SpoolGate(gate.root, gate.store, gate.holding_store, gate.day_keys)
        with gate.store.away():
            await gate.send(event)
        [answer] = await other.send(event)
        assert answer.verdict is Verdict.VALID
        await gate.backlog.work()
        assert len(await gate.events(token.impression)) == 3
        assert gate.backlog.totals.superseded == 1

    run(test, tmp_path)


def test_views_wait_and_move_what_they_saw(tmp_path):
    async def test(gate, clients):
        token, orphan = clients.token(), clients.token()
        with gate.store.away():
            answers = await gate.send(clients.render(token), clients.view(token), clients.view(orphan))
        assert [told(one)[0] for one in answers] == [Status.DECIDED, Status.PARKED, Status.PARKED]
        assert answers[1].reason is Reason.DEGRADED
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert state.standing.viewability["mrc"] == "viewable"
        assert len(gate.holding_store.views) == 1

    run(test, tmp_path)


def test_views_that_were_answered_while_the_ledger_was_away_wait_however_many_do_already(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            answers = await gate.send(*[clients.view(token) for _ in range(ROOM.impression_max + 1)])
        assert {answer.status for answer in answers} == {Status.PARKED}
        await gate.backlog.work()
        assert len(gate.holding_store.views) == ROOM.impression_max + 1
        assert [answer.status for answer in await gate.send(clients.view(token))] == [Status.DEFERRED]

    run(test, tmp_path)


def test_what_cannot_be_read_ends_in_quarantine_and_refusals_are_counted(tmp_path):
    async def test(gate, clients):
        with gate.store.away():
            answers = await gate.send(b'{"broken": 1}', clients.render(token="v1.k1.forged.00"), clients.render())
            assert [one.status for one in answers] == [Status.QUARANTINED, Status.REFUSED, Status.DECIDED]
            found = b"".join(path.read_bytes() for path in segments_of(gate.owned.folder))
        assert (await take_spooled(gate.root, gate.store)) == Spooled(renders=1, bodies=1, refused=1)
        assert b"broken" not in found
        await gate.backlog.work()
        assert len(gate.holding_store.bodies) == 1
        assert (await take_census(gate.store)).refused == {Reason.TOKEN_INVALID: 1}

    run(test, tmp_path)


def test_no_raw_identifier_is_in_the_spool(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        identity = {"user": "mary-ann", "device": "phone-of-mary", "network": "203.0.113.77", "session": "sess-mary"}
        raws = [clients.render(token, **identity), clients.view(token, **identity), b'{"user": "mary-ann"}']
        payloads = []
        gate.ingest._spooling._journal = Recording(payloads)
        with gate.store.away():
            await gate.send(*raws)
        [payload] = payloads
        for word in (*identity.values(), raws[0]["token"], "mary"):
            assert word.encode() not in payload

    run(test, tmp_path)


class Recording:
    def __init__(self, payloads):
        self.payloads = payloads

    async def write(self, payload):
        self.payloads.append(payload)


def test_an_event_id_with_another_content_is_refused_also_while_spooling(tmp_path):
    async def test(gate, clients):
        event = clients.render()
        with gate.store.away():
            await gate.send(event)
            [answer] = await gate.send({**event, "width": 31})
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)
        await gate.backlog.work()
        assert (await take_census(gate.store)).refused == {Reason.EVENT_ID_REUSED: 1}
        assert [entry.code for entry in gate.holding_store.bodies.values()] == ["event_id_reused"]

    run(test, tmp_path)


def test_an_event_id_of_before_the_outage_is_known_too(tmp_path):
    async def test(gate, clients):
        event = clients.render()
        await gate.send(event)
        with gate.store.away():
            [answer] = await gate.send({**event, "width": 31})
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)

    run(test, tmp_path)


def test_an_event_id_that_turns_out_to_be_reused_ends_in_quarantine(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        second = clients.render(token)
        await gate.send(clients.render(token), second)
        with gate.store.away():
            [answer] = await gate.send({**second, "width": 31})
        assert told(answer) == DEGRADED  # nobody remembers the repeat that had this id
        assert await take_spooled(gate.root, gate.store) == Spooled(renders=1)
        await gate.backlog.work()
        assert gate.backlog.totals.superseded == 0
        assert (await take_census(gate.store)).refused == {Reason.EVENT_ID_REUSED: 1}
        assert [entry.code for entry in gate.holding_store.bodies.values()] == ["event_id_reused"]

    run(test, tmp_path)


def test_half_of_a_batch_that_reached_the_ledger_is_not_spooled(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        gate.holding_store.quarantine = gate_away(gate)
        answers = await gate.send(clients.render(token), b'{"broken": 1}')
        assert [told(one)[1] for one in answers] == [Verdict.VALID, None]
        assert (await take_spooled(gate.root, gate.store)) == Spooled(bodies=1)

    def gate_away(gate):
        async def quarantine(_):
            raise LedgerUnavailable("the operational tables alone are away")

        return quarantine

    run(test, tmp_path)


def test_a_spool_that_refuses_is_no_answer(tmp_path):
    disk = FailingDisk()

    async def test(gate, clients):
        event = clients.render()
        disk.free = 0
        with gate.store.away(), pytest.raises(SpoolDiskFull):
            await gate.send(event)
        assert await take_spooled(gate.root, gate.store) == Spooled()
        [answer] = await gate.send(event)
        assert answer.verdict is Verdict.VALID  # nothing was remembered either

    run(test, tmp_path, disk=disk)


def test_two_double_fires_that_were_both_spooled_count_as_one(tmp_path):
    async def test(gate, clients):
        slot = {"placement": "one-place"}
        first, second = clients.token(**slot), clients.token(**slot)
        with gate.store.away():
            for token in (first, second):
                [answer] = await gate.send(clients.render(token, user="ann"))
                assert told(answer) == DEGRADED
        await gate.backlog.work()
        standings = [(await gate.state(token.impression)).standing for token in (first, second)]
        assert sorted(one.billable_micros for one in standings) == [0, PRICE]
        assert {one.reason for one in standings} == {None, Reason.DOUBLE_FIRE}
        [answer] = await gate.send(clients.render(clients.token(**slot), user="ann"))
        assert answer.reason is Reason.DOUBLE_FIRE

    run(test, tmp_path)


class Abusive:
    """Counters that find every render abusive, and note what they are asked to count."""

    def __init__(self):
        self.counted = []

    def look(self, renders):
        return {place: Conduct(abusive=True) for place in range(len(renders))}

    def count(self, claims):
        self.counted += claims

    def recall(self, impression, events): ...


def test_what_was_spooled_is_judged_by_the_counters_and_counted_once(tmp_path):
    activity = Abusive()

    async def test(gate, clients):
        token, bot = clients.token(), clients.token()
        with gate.store.away():
            await gate.send(clients.render(token), clients.render(bot, agent="a bot"))
        await gate.backlog.work()
        assert (await gate.state(token.impression)).standing.reason is Reason.RATE_ABUSIVE
        assert len(activity.counted) == 2
        assert len({claim.cause for claim in activity.counted}) == 2

    run(test, tmp_path, activity=activity)


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

    run(test, tmp_path)


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

    run(test, tmp_path)


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

    run(test, tmp_path)


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

    run(test, tmp_path)


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

    run(test, tmp_path)
    with pytest.raises(UnreadableRecord):
        unpack(b"\xc1")
    assert unpack(pack([])) == []


def test_bodies_whose_key_is_destroyed_are_counted_and_gone(tmp_path):
    async def test(gate, clients):
        with gate.store.away():
            await gate.send(b'{"broken": 1}', clients.view(clients.token()))
        await gate.day_keys.destroy_due(1 << 60)
        gate.keyring._keys.clear()
        await gate.backlog.work()
        assert gate.backlog.totals.expired == 2
        assert gate.spool.size == 0

    run(test, tmp_path)


def test_a_day_that_is_not_kept_ready_any_more_is_made_for_an_old_spool(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            await gate.send(clients.render(token))
        gate.store._days.clear()
        await gate.backlog.work()
        assert isinstance(await gate.state(token.impression), Decided)

    run(test, tmp_path)


def test_repeated_appends_of_one_impression_in_one_batch_keep_their_order(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            answers = await gate.send(clients.render(token), clients.render(token), clients.view(token))
        assert [told(one) for one in answers[:2]] == [DEGRADED] * 2
        await gate.backlog.work()
        state = await gate.state(token.impression)
        assert (state.repeats, isinstance(state.standing, Valid)) == (1, True)

    run(test, tmp_path)


def test_what_others_decided_meanwhile_is_not_decided_again(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        done = await gate.redecider.redecide([token.impression, UUID(int=5)])
        assert (done.decided, done.undecided) == (0, 0)
        assert not any(isinstance(event, ImpressionReconciled) for event in await gate.events(token.impression))

    run(test, tmp_path)


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

    run(test, tmp_path)


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

    run(test, tmp_path)
