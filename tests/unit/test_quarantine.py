"""A body in quarantine is looked at, explained, mended and replayed; whatever happens, it counts at most once."""

import asyncio
from datetime import date
from uuid import UUID

import msgspec
import pytest
from gatekit import NOW, PRICE, KitGate, Minter

from commands.items import Status
from commands.quarantine import RECORD_KEPT_MS, Held
from commands.quarantine_entries import (
    BodyGone,
    EntryState,
    FixRefused,
    NotInQuarantine,
    NotReplayable,
    Settlement,
)
from commands.quarantine_memory import MemoryQuarantine
from commands.quarantine_replay import Fix, Known
from domain.ids import minted_at
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


async def quarantined(gate, event, **kept):
    """Send *event*, which cannot be read; return its entry's name."""
    before = set(gate.holding_store.entries)
    [answer] = await gate.send(event, **kept)
    assert answer.status is Status.QUARANTINED
    [name] = set(gate.holding_store.entries) - before
    return name


def entry(gate, name):
    return gate.holding_store.entries[name]


async def net(gate):
    return (await take_census(gate.store)).renders


def test_a_replayed_render_counts_as_it_would_have_when_it_was_received():
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token, client_at=-5)
        name = await quarantined(gate, event)
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
        name = await quarantined(gate, clients.render(client_at=-5))
        assert (await gate.holding_store.count(NOW), await net(gate)) == (Held(waiting=1), 0)
        await gate.quarantine.replay(name, LEAVE_OUT)
        assert (await gate.holding_store.count(NOW), await net(gate)) == (Held(moved=1), 1)

    run(test)


def test_the_second_replay_of_an_entry_does_nothing_and_says_what_the_first_came_to():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(client_at=-5))
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
        name = await quarantined(gate, clients.render(token, client_at=-5))
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
        name = await quarantined(gate, event)
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
        name = await quarantined(gate, event)
        [theirs] = await gate.send({**event, "client_at": None})
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.known, done.answer) == (Known.ANSWER, theirs)
        assert done.entry.state is EntryState.REPLAYED
        assert await gate.store.head() == 1

    run(test)


def test_another_render_of_the_impression_meanwhile_makes_the_replayed_one_a_repeat():
    async def test(gate, clients):
        token = clients.token()
        name = await quarantined(gate, clients.render(token, client_at=-5))
        await gate.send(clients.render(token))
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert (done.known, done.answer.reason) == (Known.IMPRESSION, Reason.DUPLICATE_RENDER)
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


@pytest.mark.parametrize("fixes", [(LEAVE_OUT, LEAVE_OUT), (LEAVE_OUT, Fix({"client_at": NOW - 2_000}))])
def test_two_operators_at_once_on_two_gates_count_it_once(fixes):
    async def test(gate, clients):
        other = KitGate(gate.store, gate.holding_store, gate.day_keys)
        other.restart(name="eu-other")
        token = clients.token()
        name = await quarantined(gate, clients.render(token, client_at=-5))
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
        name = await quarantined(gate, clients.render(client_at=-5))
        late = MemoryQuarantine(gate.holding_store)
        slow = KitGate(gate.store, gate.holding_store, gate.day_keys, quarantine_store=Cut(gate.holding_store))
        with pytest.raises(LedgerUnavailable):
            await slow.quarantine.replay(name, LEAVE_OUT)
        lost = await gate.quarantine.replay(name, Fix({"client_at": NOW - 2_000}))
        assert lost.entry.state is EntryState.SUPERSEDED
        won = Settlement(state=EntryState.REPLAYED, outcome="decided valid", fixed=("client_at",), at=NOW)
        assert (await late.settle(name, won)).state is EntryState.REPLAYED

    run(test)


def test_a_reused_event_id_is_explained_and_never_replayed():
    async def test(gate, clients):
        event = clients.render()
        await gate.send(event)
        [answer] = await gate.send({**event, "width": 728})
        assert answer.reason is Reason.EVENT_ID_REUSED
        [name] = gate.holding_store.entries
        explained = await gate.quarantine.explain(name)
        assert explained.fix is None
        assert explained.flaws == ()
        assert "has an answer already" in explained.advice
        assert str(explained.impression_id) == str(answer.impression_id)
        for fix in (Fix(), Fix({"event_id": str(clients.uuid())})):
            with pytest.raises(NotReplayable, match="a single event would count as two"):
                await gate.quarantine.replay(name, fix)
        assert await gate.holding_store.count(NOW) == Held(reused=1)

    run(test)


def test_what_could_not_be_read_and_what_was_reused_under_one_id_stand_side_by_side():
    async def test(gate, clients):
        event = clients.render()
        await gate.send({**event, "client_at": -5}, event, {**event, "width": 728})
        codes = sorted(one.code for one in gate.holding_store.entries.values())
        assert codes == ["event_id_reused", "invalid"]

    run(test)


def test_a_body_that_came_without_an_event_id_gets_one_that_follows_from_its_entry():
    async def test(gate, clients):
        token = clients.token()
        name = await quarantined(gate, clients.render(token, event_id="nonsense"))
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
        name = await quarantined(gate, clients.render(token, client_at=-5, agent="a bot"))
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
        name = await quarantined(gate, clients.render(client_at=-5, width="wide"))
        with pytest.raises(FixRefused, match=r"\$.width"):
            await gate.quarantine.replay(name, LEAVE_OUT)
        assert entry(gate, name).state is EntryState.WAITING
        assert await gate.store.head() == 0

    run(test)


def test_the_suggested_fix_is_applied_and_an_own_one_goes_before_it():
    async def test(gate, clients):
        first = await quarantined(gate, clients.render(client_at=-5, width="300"))
        second = await quarantined(gate, clients.render(client_at=-5, width="300"))
        assert (await gate.quarantine.explain(first)).fix == {"client_at": None, "width": 300}
        await gate.quarantine.replay(first, Fix(suggested=True))
        done = await gate.quarantine.replay(second, Fix({"width": 299}, suggested=True))
        assert sorted(done.entry.fixed) == ["client_at", "width"]
        perhaps = await quarantined(gate, clients.render(prefetched="perhaps"))
        with pytest.raises(FixRefused, match="no fix follows"):
            await gate.quarantine.replay(perhaps, Fix(suggested=True))

    run(test)


def test_a_refusal_that_may_pass_leaves_the_entry_waiting_and_counts_nothing():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(clients.token(region="us"), client_at=-5))
        done = await gate.quarantine.replay(name, LEAVE_OUT)
        assert done.answer.reason is Reason.REGION_MISDIRECTED
        assert (done.entry.state, done.entry.outcome) == (EntryState.WAITING, "refused REGION_MISDIRECTED")
        assert await gate.store.head() == 0

    run(test)


def test_a_replayed_view_is_recorded_or_waits_for_its_render_like_any_other():
    async def test(gate, clients):
        token = clients.token(billing_event=BillingEvent.VIEWABLE)
        early = await quarantined(gate, clients.view(token, client_at=-5))
        done = await gate.quarantine.replay(early, LEAVE_OUT)
        assert (done.answer.status, done.entry.state) == (Status.PARKED, EntryState.REPLAYED)
        assert await gate.holding_store.count(NOW) == Held(parked=1, moved=1)
        await gate.send(clients.render(token))
        late = await quarantined(gate, clients.view(token, client_at=-5))
        assert (await gate.quarantine.replay(late, LEAVE_OUT)).answer.status is Status.RECORDED
        assert (await gate.state(token.impression)).standing.billable_micros == PRICE

    run(test)


def test_a_replay_is_screened_by_who_sent_it_not_by_who_replays_it():
    async def test(gate, clients):
        sdk = await quarantined(gate, clients.render(client_at=-5, agent="a bot"), scopes=frozenset())
        server = await quarantined(gate, clients.render(client_at=-5, agent="a bot"), scopes=frozenset({"ingest"}))
        assert (await gate.quarantine.replay(sdk, LEAVE_OUT)).answer.verdict is Verdict.VALID
        assert (await gate.quarantine.replay(server, LEAVE_OUT)).answer.reason is Reason.AGENT_DECLARED_BOT

    run(test)


def test_history_stays_history_and_live_stays_live():
    async def test(gate, clients):
        at = 1_431_857_103_000
        token = clients.token(at=at)
        past = clients.render(token, received_at=at + 1_000, client_at=-5, on_screen_at=at)
        name = await quarantined(gate, past)
        await gate.quarantine.replay(name, LEAVE_OUT)
        rendered, _, deduped = await gate.events(token.impression)
        assert (rendered.received_at, deduped.cut.data_set) == (at + 1_000, "replay")
        token = clients.token()
        name = await quarantined(gate, clients.render(token, received_at=NOW - 9), scopes=frozenset({"ingest"}))
        assert (await gate.quarantine.explain(name)).fix == {"received_at": None}
        await gate.quarantine.replay(name, Fix(suggested=True))
        rendered, _, deduped = await gate.events(token.impression)
        assert (rendered.received_at, deduped.cut.data_set) == (NOW, "live")

    run(test)


def test_days_later_it_is_neither_late_nor_expired_for_it_was_received_in_time():
    async def test(gate, clients):
        gate.holding._ttl_ms = 30 * DAY_MS
        token = clients.token(at=NOW - 5_000)
        name = await quarantined(gate, clients.render(token, client_at=-5))
        gate.now = NOW + 6 * DAY_MS
        assert (await gate.quarantine.replay(name, LEAVE_OUT)).answer.verdict is Verdict.VALID

    run(test)


def test_a_body_is_never_kept_longer_than_its_days_key():
    async def test(gate, clients):
        gate.holding._ttl_ms = 30 * DAY_MS
        name = await quarantined(gate, clients.render(client_at=-5))
        assert entry(gate, name).expires_at <= NOW + 8 * DAY_MS
        assert await gate.day_keys.destroy_due(entry(gate, name).expires_at) == 0

    run(test)


def test_when_the_time_is_up_the_body_is_gone_and_the_entry_says_so_for_a_while():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(client_at=-5))
        for clears in (False, True):
            gate.now = NOW + HOUR_MS
            if clears:
                assert await gate.holding_store.drop_expired(gate.now, 0) == 1
            explained = await gate.quarantine.explain(name)
            assert (explained.entry.state, explained.body) == (EntryState.EXPIRED, None)
            assert explained.advice == "its time is up and the body is deleted; nobody can read or replay it any more."
            with pytest.raises(BodyGone):
                await gate.quarantine.replay(name, LEAVE_OUT)
        await gate.holding_store.drop_expired(gate.now + RECORD_KEPT_MS, 0)
        with pytest.raises(NotInQuarantine):
            await gate.quarantine.explain(name)

    run(test)


def test_when_its_key_is_destroyed_it_says_so():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(client_at=-5))
        await gate.intake.keyring.destroy_due(NOW + 30 * DAY_MS)
        assert "the key of the day on which it came is destroyed" in (await gate.quarantine.explain(name)).advice
        with pytest.raises(BodyGone, match="is destroyed"):
            await gate.quarantine.replay(name, LEAVE_OUT)

    run(test)


def test_when_the_impressions_own_key_is_destroyed_it_is_refused_as_expired():
    async def test(gate, clients):
        old = clients.token(at=NOW - 2 * DAY_MS)
        name = await quarantined(gate, clients.render(old, client_at=-5))
        await gate.send(clients.render(clients.token(at=NOW - 2 * DAY_MS)))
        day = minted_at(old.impression) // DAY_MS
        gate.day_keys._keys[day] = (None, 0)
        gate.restart()
        assert (await gate.quarantine.replay(name, LEAVE_OUT)).answer.reason is Reason.TOKEN_EXPIRED

    run(test)


def test_a_damaged_body_is_told_apart():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(client_at=-5))
        body = gate.holding_store.bodies[name]
        gate.holding_store.bodies[name] = msgspec.structs.replace(body, sealed=body.sealed[:-1] + b"\x00\x00")
        with pytest.raises(BodyGone, match="damaged"):
            await gate.quarantine.replay(name, LEAVE_OUT)

    run(test)


def test_an_explanation_hides_identifiers_unless_all_is_asked_for():
    async def test(gate, clients):
        event = clients.render(client_at=-5, user="anna@example.org", session="s-77", idfa="A-B-C")
        name = await quarantined(gate, event)
        masked, raw = await gate.quarantine.explain(name), await gate.quarantine.explain(name, raw=True)
        told = msgspec.json.encode(masked).decode()
        for identifier in ("anna@example.org", "s-77", "A-B-C", event["token"], "198.51.100.7", "Mozilla"):
            assert identifier not in told
        assert raw.body == event
        assert [flaw.path for flaw in masked.flaws] == ["$.client_at", "$.idfa"]
        assert (masked.fix, masked.leaves_out) == ({"client_at": None, "idfa": None}, ("client_at",))
        assert masked.advice == "Replay it with --suggested, or say a fix of your own."

    run(test)


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"{broken", "It cannot be replayed: it is not JSON, so no field of it can be mended"),
        (b'{"event_id": 7}', "It cannot be replayed: it has no readable token"),
        (b'"text"', "It cannot be replayed: it is JSON, but no object"),
    ],
)
def test_what_cannot_be_mended_says_why(body, advice):
    async def test(gate, _):
        name = await quarantined(gate, body)
        explained = await gate.quarantine.explain(name)
        assert explained.advice.startswith(advice)
        assert explained.fix is None
        assert "broken" not in str(explained.body)
        with pytest.raises(NotReplayable):
            await gate.quarantine.replay(name, Fix())

    run(test)


def test_what_a_newer_program_can_read_is_replayed_without_a_fix():
    async def test(gate, clients):
        event = clients.render(client_at=-5)
        name = await quarantined(gate, event)
        body = gate.holding_store.bodies[name]
        keys = gate.intake.keyring.of(body.key_day)
        readable = keys.seal(msgspec.json.encode({**event, "client_at": NOW - 9}), b"n" * 12, name)
        gate.holding_store.bodies[name] = msgspec.structs.replace(body, sealed=readable)
        assert "without a fix" in (await gate.quarantine.explain(name)).advice
        assert (await gate.quarantine.replay(name, Fix())).answer.verdict is Verdict.VALID

    run(test)


def test_what_comes_again_is_kept_once_and_counted():
    async def test(gate, clients):
        event = clients.render(client_at=-5)
        name = await quarantined(gate, event)
        gate.now += 7
        await gate.send(event, event)
        again = entry(gate, name)
        assert (again.times, again.received_at, again.last_at) == (3, NOW, NOW + 7)
        await gate.quarantine.replay(name, LEAVE_OUT)
        [answer] = await gate.send(event)
        assert answer.status is Status.QUARANTINED
        assert (entry(gate, name).state, entry(gate, name).times) == (EntryState.REPLAYED, 4)

    run(test)


def test_in_clear_stand_no_words_of_the_clients_but_the_sdk():
    async def test(gate, clients):
        name = await quarantined(gate, clients.render(**{"anna@example.org": 1}))
        assert entry(gate, name).detail == "Object contains unknown field"
        assert entry(gate, name).sdk == "ios/12.1"
        odd = await quarantined(gate, clients.render(client_at=-5, sdk="anna at example"))
        assert entry(gate, odd).sdk == ""

    run(test)


def test_a_history_whose_event_id_is_reused_twice_is_kept_aside_and_stops_nothing():
    async def test(gate, clients):
        at = 1_431_857_103_000
        event = clients.render(clients.token(at=at), received_at=at + 9, client_at=None, on_screen_at=at)
        await gate.send(event)
        for width in (1_000, 1_001):
            [answer] = await gate.send({**event, "width": width})
            assert answer.reason is Reason.EVENT_ID_REUSED
            await gate.intake.keyring.destroy_due(NOW)
        [one] = gate.holding_store.entries.values()
        assert one.times == 2
        assert one.event_id == UUID(event["event_id"])

    run(test)
