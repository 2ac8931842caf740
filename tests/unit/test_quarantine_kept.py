"""What is kept of a body in quarantine and for how long, and what a look at it tells."""

import asyncio
from datetime import date
from uuid import UUID

import msgspec
import pytest
from gatekit import NOW, KitGate, Minter

from commands.items import Status
from commands.quarantine import RECORD_KEPT_MS, Held
from commands.quarantine_entries import (
    BodyGone,
    EntryState,
    NotInQuarantine,
    NotReplayable,
)
from commands.quarantine_replay import Fix
from domain.ids import minted_at
from domain.reasons import Reason, Verdict

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


def test_a_body_is_never_kept_longer_than_its_days_key():
    async def test(gate, clients):
        gate.holding._ttl_ms = 30 * DAY_MS
        name = await gate.quarantined(clients.render(client_at=-5))
        assert entry(gate, name).expires_at <= NOW + 8 * DAY_MS
        assert await gate.day_keys.destroy_due(entry(gate, name).expires_at) == 0

    run(test)


def test_when_the_time_is_up_the_body_is_gone_and_the_entry_says_so_for_a_while():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5))
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
        name = await gate.quarantined(clients.render(client_at=-5))
        await gate.intake.keyring.destroy_due(NOW + 30 * DAY_MS)
        assert "the key of the day on which it came is destroyed" in (await gate.quarantine.explain(name)).advice
        with pytest.raises(BodyGone, match="is destroyed"):
            await gate.quarantine.replay(name, LEAVE_OUT)

    run(test)


def test_when_the_impressions_own_key_is_destroyed_it_is_refused_as_expired():
    async def test(gate, clients):
        old = clients.token(at=NOW - 2 * DAY_MS)
        name = await gate.quarantined(clients.render(old, client_at=-5))
        await gate.send(clients.render(clients.token(at=NOW - 2 * DAY_MS)))
        day = minted_at(old.impression) // DAY_MS
        gate.day_keys._keys[day] = (None, 0)
        gate.restart()
        assert (await gate.quarantine.replay(name, LEAVE_OUT)).answer.reason is Reason.TOKEN_EXPIRED

    run(test)


def test_a_damaged_body_is_told_apart():
    async def test(gate, clients):
        name = await gate.quarantined(clients.render(client_at=-5))
        body = gate.holding_store.bodies[name]
        gate.holding_store.bodies[name] = msgspec.structs.replace(body, sealed=body.sealed[:-1] + b"\x00\x00")
        with pytest.raises(BodyGone, match="damaged"):
            await gate.quarantine.replay(name, LEAVE_OUT)

    run(test)


def test_an_explanation_hides_identifiers_unless_all_is_asked_for():
    async def test(gate, clients):
        event = clients.render(client_at=-5, user="anna@example.org", session="s-77", idfa="A-B-C")
        name = await gate.quarantined(event)
        masked, raw = await gate.quarantine.explain(name), await gate.quarantine.explain(name, raw=True)
        told = msgspec.json.encode(masked).decode()
        for identifier in ("anna@example.org", "s-77", "A-B-C", event["token"], "198.51.100.7", "Mozilla"):
            assert identifier not in told
        assert raw.body == event
        assert [flaw.path for flaw in masked.flaws] == ["$.client_at", "$.idfa"]
        assert (masked.fix, masked.leaves_out) == ({"client_at": None, "idfa": None}, ("client_at",))
        assert masked.advice == "Replay it with --suggested, or say a fix of your own."

    run(test)


def test_a_suggested_fix_does_not_tell_an_identifier_either():
    async def test(gate, clients):
        token = clients.token()
        name = await gate.quarantined(clients.render(token, user=123456789, width="300"))
        assert (await gate.quarantine.explain(name)).fix == {"user": "<hidden>", "width": 300}
        assert (await gate.quarantine.explain(name, raw=True)).fix == {"user": "123456789", "width": 300}
        await gate.quarantine.replay(name, Fix(suggested=True))
        same = clients.token()
        await gate.send(clients.render(same, user="123456789"))
        users = [(await gate.events(one.impression))[0].user for one in (token, same)]
        assert users[0] == users[1] != ""

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
        name = await gate.quarantined(body)
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
        name = await gate.quarantined(event)
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
        name = await gate.quarantined(event)
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
        name = await gate.quarantined(clients.render(**{"anna@example.org": 1}))
        assert entry(gate, name).detail == "Object contains unknown field"
        assert entry(gate, name).sdk == "ios/12.1"
        odd = await gate.quarantined(clients.render(client_at=-5, sdk="anna at example"))
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


def test_of_a_body_that_no_render_has_no_more_is_kept_than_says_so():
    async def test(gate, clients):
        await gate.send(msgspec.json.encode({**clients.render(), "padding": "x" * 200_000}))
        [kept] = gate.holding_store.bodies.values()
        assert (kept.size > 200_000, len(kept.sealed) < 66_000) == (True, True)
        explained = await gate.quarantine.explain(kept.name)
        assert explained.fix is None
        with pytest.raises(NotReplayable, match="more than 65536 bytes"):
            await gate.quarantine.replay(kept.name, Fix({"padding": None}))

    run(test)
