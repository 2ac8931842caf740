"""Answers without a ledger, and what becomes of them once it is back."""

import pytest
from gatekit import PACK, PRICE
from spoolkit import DEGRADED, FailingDisk, SpoolGate, run_spool, told

from commands.activity import Conduct
from commands.items import Status
from commands.quarantine import ROOM
from commands.redecide import correction_of
from commands.spool_census import Spooled, take_spooled
from domain.events import (
    ImpressionAnswered,
    ImpressionDeduped,
    ImpressionRendered,
    ImpressionScored,
)
from domain.reasons import Reason, Verdict
from domain.standing import Valid
from domain.vocabulary import Authority, OmidType, Rung, Surface
from ledger.census import take_census
from ledger.spool import SpoolDiskFull, segments_of
from ledger.store import LedgerUnavailable

DROPPED = Status.DECIDED, Verdict.DROPPED, Reason.AGENT_DECLARED_BOT, Rung.SPOOLED


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


@pytest.mark.parametrize("forgetful", [False, True])
def test_what_speaks_against_a_render_by_itself_is_provisional_until_the_ledger_has_it(tmp_path, forgetful):
    async def test(gate, clients):
        event = clients.render(agent="a bot")
        with gate.store.away():
            away = [await gate.send(event), await gate.send(event)]
        await gate.backlog.work()
        if forgetful:
            gate.restart()
        back = await gate.send(event)
        assert [[told(answer) for answer in answers] for answers in away] == [[(*DROPPED, True)]] * 2
        assert [told(answer) for answer in back] == [(*DROPPED, False)]

    run_spool(test, tmp_path)


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
        *_, repeat, note = await gate.events(token.impression)
        assert (repeat.verdict, repeat.reason, repeat.cause) == (Verdict.DUPLICATE, Reason.DUPLICATE_RENDER, note.of)
        assert (note.verdict, note.reason, note.answered_at) == (*DEGRADED[1:3], gate.now)

    run_spool(test, tmp_path)


def test_a_render_that_was_told_a_verdict_and_turns_out_a_repeat_has_both_in_the_stream(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        with gate.store.away():
            [answer] = await gate.send(clients.render(token, agent="a bot"))
        assert (answer.verdict, answer.reason) == (Verdict.DROPPED, Reason.AGENT_DECLARED_BOT)
        await gate.backlog.work()
        *_, repeat, note = await gate.events(token.impression)
        assert (repeat.reason, note.reason) == (Reason.DUPLICATE_RENDER, Reason.AGENT_DECLARED_BOT)

    run_spool(test, tmp_path)


def test_what_was_told_is_noted_once_however_often_draining_is_begun(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        with gate.store.away():
            await gate.send(clients.render(token))
        [path] = await gate.spool.seal()
        again = path.read_bytes()
        await gate.backlog.work()
        (gate.root / "again").mkdir()
        (gate.root / "again" / path.name).write_bytes(again)
        gate.backlog.adopt()
        await gate.backlog.work()
        notes = [one for one in await gate.events(token.impression) if isinstance(one, ImpressionAnswered)]
        assert (len(notes), gate.backlog.totals.superseded) == (1, 1)

    run_spool(test, tmp_path)


def test_repeats_that_are_only_counted_get_no_note(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token), *(clients.render(token) for _ in range(PACK.repeats_kept_max)))
        before = len(await gate.events(token.impression))
        with gate.store.away():
            await gate.send(clients.render(token))
        await gate.backlog.work()
        assert (len(await gate.events(token.impression)), gate.spool.size) == (before, 0)

    run_spool(test, tmp_path)


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
        *_, stored, note = await gate.events(token.impression)
        assert (stored.verdict, note.of, note.verdict) == (Verdict.VALID, stored.cause, Verdict.UNCERTAIN)
        assert gate.backlog.totals.superseded == 1

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


def test_views_that_were_answered_while_the_ledger_was_away_wait_however_many_do_already(tmp_path):
    async def test(gate, clients):
        token = clients.token()
        with gate.store.away():
            answers = await gate.send(*[clients.view(token) for _ in range(ROOM.impression_max + 1)])
        assert {answer.status for answer in answers} == {Status.PARKED}
        await gate.backlog.work()
        assert len(gate.holding_store.views) == ROOM.impression_max + 1
        assert [answer.status for answer in await gate.send(clients.view(token))] == [Status.DEFERRED]

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


def test_an_event_id_of_before_the_outage_is_known_too(tmp_path):
    async def test(gate, clients):
        event = clients.render()
        await gate.send(event)
        with gate.store.away():
            [answer] = await gate.send({**event, "width": 31})
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path, disk=disk)


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

    run_spool(test, tmp_path)


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

    run_spool(test, tmp_path, activity=activity)
