"""A body in quarantine is looked at, explained, mended and replayed; whatever happens, it counts at most once."""

import asyncio
from datetime import date

import pytest
from damagekit import damage, mend
from gatekit import NOW, PRICE, KitGate, Minter

from commands.items import Status
from commands.quarantine import Held
from commands.quarantine_entries import (
    EntryState,
    FixRefused,
    NotReplayable,
    Settlement,
)
from commands.quarantine_memory import MemoryQuarantine
from commands.quarantine_replay import Fix, Known
from domain.reasons import Reason, Verdict
from domain.standing import Valid
from domain.vocabulary import BillingEvent
from ledger.census import take_census
from ledger.store import LedgerUnavailable

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
LEAVE_OUT = Fix({"client_at": None})


def run(test):
    async def main():
        gate = KitGate()
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        await test(gate, Minter())

    asyncio.run(main())


def entry(gate, name):
    return gate.holding_store.entries[name]


async def net(gate):
    return (await take_census(gate.store)).renders


def test_a_replayed_render_counts_as_it_would_have_when_it_was_received():
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token, client_at=-5)
        name = await gate.quarantined(event)
        gate.now += HOUR_MS // 2
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.answer.status, done.answer.verdict) == (Status.DECIDED, Verdict.VALID)
        assert (done.known, done.again) == (Known.NOTHING, False)
        rendered, _, deduped = await gate.events(token.impression)
        assert str(rendered.cause) == event["event_id"]
        assert rendered.received_at == NOW
        assert deduped.cut.data_set == "live"
        assert (await gate.state(token.impression)).standing == Valid(billable_micros=PRICE)
        settled = entry(gate, name)
        assert (settled.state, settled.outcome, settled.fixed) == (
            EntryState.REPLAYED,
            "decided valid",
            ("client_at",),
        )
        assert (settled.received_at, settled.settled_at) == (NOW, NOW + HOUR_MS // 2)

    run(test)


def test_a_replayed_render_moves_from_quarantine_to_the_ledger():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5))
        assert (await gate.holding_store.count(NOW), await net(gate)) == (Held(waiting=1), 0)
        await gate.quarantine.replay(name, LEAVE_OUT)
        assert (await gate.holding_store.count(NOW), await net(gate)) == (Held(moved=1), 1)

    run(test)


def test_the_second_replay_of_an_entry_does_nothing_and_says_what_the_first_came_to():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5))
        await gate.quarantine.replay(name, LEAVE_OUT)
        for fix in (LEAVE_OUT, Fix({"client_at": NOW - 2_000}), Fix()):
            done = await gate.quarantine.replay(name, fix)
            assert (done.again, done.answer, done.entry.outcome) == (True, None, "decided valid")
        assert await gate.store.head() == 1

    run(test)


class Cut(MemoryQuarantine):
    """Dies between the gate's answer and the mark."""

    async def settle(self, name, settlement):
        raise LedgerUnavailable("killed here")


@pytest.mark.parametrize("fix", [LEAVE_OUT, Fix({"client_at": NOW - 2_000})], ids=["same fix", "another fix"])
def test_a_replay_that_was_killed_before_its_mark_counts_once_whatever_is_tried_next(fix):
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, client_at=-5))
        dying = KitGate(gate.store, gate.holding_store, gate.day_keys, quarantine_store=Cut(gate.holding_store))
        with pytest.raises(LedgerUnavailable):
            await dying.quarantine.replay(name, LEAVE_OUT)
        assert entry(gate, name).state is EntryState.WAITING
        done = await gate.quarantine.replay(name, fix)
        if fix is LEAVE_OUT:
            assert (done.known, done.answer.verdict) == (Known.ANSWER, Verdict.VALID)
            assert done.entry.state is EntryState.REPLAYED
        else:
            assert (done.known, done.answer.reason) == (Known.OTHER_CONTENT, Reason.EVENT_ID_REUSED)
            assert done.entry.state is EntryState.SUPERSEDED
        assert await gate.store.head() == 1
        assert len(gate.holding_store.entries) == 1
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_what_the_client_sent_again_itself_under_the_same_event_id_is_not_counted_a_second_time():
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token, client_at=-5)
        name = await gate.quarantined(event)
        await gate.send({**event, "client_at": NOW - 2_000})
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert done.known is Known.OTHER_CONTENT
        assert (done.answer.status, done.answer.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)
        assert done.entry.state is EntryState.SUPERSEDED
        assert await gate.store.head() == 1
        with pytest.raises(NotReplayable, match="answered with another content since"):
            await gate.quarantine.replay(name, LEAVE_OUT)
        assert await gate.holding_store.count(NOW) == Held(moved=1)

    run(test)


def test_what_the_client_sent_again_itself_with_the_very_content_gets_the_same_answer():
    async def test(gate, clients):
        event = clients.render(client_at=-5)
        name = await gate.quarantined(event)
        [theirs] = await gate.send({**event, "client_at": None})
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.known, done.answer) == (Known.ANSWER, theirs)
        assert done.entry.state is EntryState.REPLAYED
        assert await gate.store.head() == 1

    run(test)


def test_another_render_of_the_impression_meanwhile_makes_the_replayed_one_a_repeat():
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, client_at=-5))
        await gate.send(clients.render(token))
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.known, done.answer.reason) == (Known.IMPRESSION, Reason.DUPLICATE_RENDER)
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_a_replay_waits_while_the_stream_of_its_impression_cannot_be_read():
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, client_at=-5))
        await gate.send(clients.render(token))
        good = damage(gate.store, token.impression)
        assert (await gate.quarantine.replay(name, LEAVE_OUT, dry_run=True)).known is None
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.known, done.answer.status) == (None, Status.DEFERRED)
        assert entry(gate, name).state is EntryState.WAITING
        mend(gate.store, good)
        assert (await gate.quarantine.replay(name, LEAVE_OUT)).known is Known.IMPRESSION
        assert entry(gate, name).state is EntryState.REPLAYED

    run(test)


@pytest.mark.parametrize("fixes", [(LEAVE_OUT, LEAVE_OUT), (LEAVE_OUT, Fix({"client_at": NOW - 2_000}))])
def test_two_operators_at_once_on_two_gates_count_it_once(fixes):
    async def test(gate, clients):
        other = KitGate(gate.store, gate.holding_store, gate.day_keys)
        other.restart(name="eu-other")
        token = clients.token()
        name = await gate.quarantined(clients.render(token, client_at=-5))
        both = await asyncio.gather(
            *(one.quarantine.replay(name, fix) for one, fix in zip((gate, other), fixes, strict=True))
        )
        assert Verdict.VALID in {done.answer.verdict for done in both if done.answer is not None}
        assert entry(gate, name).state is EntryState.REPLAYED
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE
        assert len(await gate.events(token.impression)) == 3

    run(test)


def test_a_race_that_the_loser_writes_down_first_still_ends_as_replayed():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5))
        late = MemoryQuarantine(gate.holding_store)
        slow = KitGate(gate.store, gate.holding_store, gate.day_keys, quarantine_store=Cut(gate.holding_store))
        with pytest.raises(LedgerUnavailable):
            await slow.quarantine.replay(name, LEAVE_OUT)
        lost = await gate.quarantine.replay(name, Fix({"client_at": NOW - 2_000}))
        assert lost.entry.state is EntryState.SUPERSEDED
        won = Settlement(state=EntryState.REPLAYED, outcome="decided valid", fixed=("client_at",), at=NOW)
        assert (await late.settle(name, won)).state is EntryState.REPLAYED

    run(test)


def test_a_body_that_came_without_an_event_id_gets_one_that_follows_from_its_entry():
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, event_id="nonsense"))
        dying = KitGate(gate.store, gate.holding_store, gate.day_keys, quarantine_store=Cut(gate.holding_store))
        with pytest.raises(LedgerUnavailable):
            await dying.quarantine.replay(name, Fix())
        done = await gate.quarantine.replay(name, Fix())
        assert (done.known, done.entry.fixed) == (Known.ANSWER, ("event_id",))
        assert await gate.store.head() == 1

    run(test)


def test_a_dry_run_says_what_would_happen_and_changes_nothing():
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, client_at=-5, agent="a bot"))
        done = await gate.quarantine.replay(name, LEAVE_OUT, dry_run=True)
        assert (done.dry_run, done.known, done.answer) == (True, Known.NOTHING, None)
        assert done.reasons == (Reason.AGENT_DECLARED_BOT,)
        assert entry(gate, name).state is EntryState.WAITING
        assert await gate.store.head() == 0
        await gate.send(clients.render(token))
        assert (await gate.quarantine.replay(name, LEAVE_OUT, dry_run=True)).known is Known.IMPRESSION

    run(test)


def test_a_fix_that_does_not_do_leaves_everything_as_it_was():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5, width="wide"))
        with pytest.raises(FixRefused, match=r"\$.width"):
            await gate.quarantine.replay(name, LEAVE_OUT)
        assert entry(gate, name).state is EntryState.WAITING
        assert await gate.store.head() == 0

    run(test)


def test_the_suggested_fix_is_applied_and_an_own_one_goes_before_it():
    async def test(gate, clients):
        first = await gate.quarantined(clients.render(client_at=-5, width="300"))
        second = await gate.quarantined(clients.render(client_at=-5, width="300"))
        assert (await gate.quarantine.explain(first)).fix == {"client_at": None, "width": 300}
        await gate.quarantine.replay(first, Fix(suggested=True))
        done = await gate.quarantine.replay(second, Fix({"width": 299}, suggested=True))
        assert sorted(done.entry.fixed) == ["client_at", "width"]
        perhaps = await gate.quarantined(clients.render(prefetched="perhaps"))
        with pytest.raises(FixRefused, match="no fix follows"):
            await gate.quarantine.replay(perhaps, Fix(suggested=True))

    run(test)


def test_a_refusal_that_may_pass_leaves_the_entry_waiting_and_counts_nothing():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(clients.token(region="us"), client_at=-5))
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert done.answer.reason is Reason.REGION_MISDIRECTED
        assert (done.entry.state, done.entry.outcome) == (EntryState.WAITING, "refused REGION_MISDIRECTED")
        assert await gate.store.head() == 0

    run(test)


def test_a_replayed_view_is_recorded_or_waits_for_its_render_like_any_other():
    async def test(gate, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        early = await gate.quarantined(clients.view(token, client_at=-5))
        done = await gate.quarantine.replay(early, LEAVE_OUT)
        assert (done.answer.status, done.entry.state) == (Status.PARKED, EntryState.REPLAYED)
        assert await gate.holding_store.count(NOW) == Held(parked=1, moved=1)
        await gate.send(clients.render(token))
        late = await gate.quarantined(clients.view(token, client_at=-5))
        assert (await gate.quarantine.replay(late, LEAVE_OUT)).answer.status is Status.RECORDED
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_a_replay_is_screened_by_who_sent_it_not_by_who_replays_it():
    async def test(gate, clients):
        sdk = await gate.quarantined(clients.render(client_at=-5, agent="a bot"), scopes=frozenset())
        server = await gate.quarantined(clients.render(client_at=-5, agent="a bot"), scopes=frozenset({"ingest"}))
        assert (await gate.quarantine.replay(sdk, LEAVE_OUT)).answer.verdict is Verdict.VALID
        assert (await gate.quarantine.replay(server, LEAVE_OUT)).answer.reason is Reason.AGENT_DECLARED_BOT

    run(test)


def test_history_stays_history_and_live_stays_live():
    async def test(gate, clients):
        at = 1_431_857_103_000
        token = clients.token(at=at)
        past = clients.render(token, received_at=at + 1_000, client_at=-5, on_screen_at=at)
        name = await gate.quarantined(past)
        await gate.quarantine.replay(name, LEAVE_OUT)
        rendered, _, deduped = await gate.events(token.impression)
        assert (rendered.received_at, deduped.cut.data_set) == (at + 1_000, "replay")
        token = clients.token()
        name = await gate.quarantined(clients.render(token, received_at=NOW - 9), scopes=frozenset({"ingest"}))
        assert (await gate.quarantine.explain(name)).fix == {"received_at": None}
        await gate.quarantine.replay(name, Fix(suggested=True))
        rendered, _, deduped = await gate.events(token.impression)
        assert (rendered.received_at, deduped.cut.data_set) == (NOW, "live")

    run(test)


def test_days_later_it_is_neither_late_nor_expired_for_it_was_received_in_time():
    async def test(gate, clients):
        gate.holding._ttl_ms = 30 * DAY_MS
        token = clients.token(at=NOW - 5_000)
        name = await gate.quarantined(clients.render(token, client_at=-5))
        gate.now = NOW + 6 * DAY_MS
        assert (await gate.quarantine.replay(name, LEAVE_OUT)).answer.verdict is Verdict.VALID

    run(test)
