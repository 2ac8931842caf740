"""A batch through the gate: what is answered, and what the ledger then holds."""

from datetime import date

import msgspec
import pytest
from builders import PACK
from cryptography.exceptions import InvalidTag
from gatekit import NOW, PRICE, KitGate, counted, run_gate

from commands import ingest
from commands.items import Status
from commands.keyring import DAY_MS
from commands.quarantine import Room
from domain.events import ImpressionDeduped, ImpressionRendered, ImpressionScored
from domain.ids import minted_at
from domain.impression import Decided
from domain.reasons import Reason, Verdict
from domain.render import RENDER_MAX_BYTES
from domain.standing import Valid
from domain.vocabulary import OmidType, Rung, Surface
from ledger.memory import MemoryStore
from ledger.store import LedgerUnavailable

DAY = date(2026, 9, 21)


class PreparingStore(MemoryStore):
    """A ledger beside which something happens while it makes days ready."""

    async def while_preparing(self):
        pass

    async def prepare_days(self, first, last, data_set):
        await super().prepare_days(first, last, data_set)
        await self.while_preparing()


def test_a_first_render_is_three_events_in_one_append():
    async def test(gate, clients):
        token = clients.token()
        [answer] = await gate.send(clients.render(token))
        assert (answer.status, answer.verdict, answer.reason) == (Status.DECIDED, Verdict.VALID, None)
        assert (answer.impression_id, answer.provisional, answer.rung) == (
            token.impression,
            False,
            Rung.MODEL_FALLBACK,
        )
        rendered, scored, deduped = await gate.events(token.impression)
        assert isinstance(rendered, ImpressionRendered)
        assert isinstance(scored, ImpressionScored)
        assert isinstance(deduped, ImpressionDeduped)
        assert deduped.after == Valid(billable_micros=PRICE)
        assert await gate.store.head() == 1

    run_gate(test)


def test_no_raw_identifier_reaches_the_ledger():
    async def test(gate, clients):
        event = clients.render(
            user="anna@example.org", session="session-77", device="idfa-77", network="198.51.100.7", agent="Mozilla/7.7"
        )
        await gate.send(event)
        stored = b"".join(commit.data for commit in await gate.store.read_all(0, 10))
        for raw in (b"anna", b"idfa-77", b"session-77", b"198.51.100.7", b"Mozilla/7.7", event["token"].encode()):
            assert raw not in stored

    run_gate(test)


def test_pseudonyms_of_two_days_do_not_link():
    async def test(gate, clients):
        tokens = [clients.token(at=NOW - 5_000), clients.token(at=NOW - 86_400_000)]
        await gate.send(*(clients.render(token, user="anna") for token in tokens))
        users = [(await gate.events(token.impression))[0].user for token in tokens]
        assert users[0]
        assert users[0] != users[1]

    run_gate(test)


def test_a_retry_gets_the_first_answer_and_writes_nothing():
    async def test(gate, clients):
        event = clients.render(agent="a bot")
        [first] = await gate.send(event)
        for forgetful in (False, True):
            if forgetful:
                gate.restart()
            [again] = await gate.send({**event, "sent_at": NOW + 5, "attempt": 2})
            assert again == first
            assert (again.verdict, again.reason) == (Verdict.DROPPED, Reason.AGENT_DECLARED_BOT)
            assert await gate.store.head() == 1

    run_gate(test)


def test_a_retry_in_the_same_batch_writes_once():
    async def test(gate, clients):
        event = clients.render()
        answers = await gate.send(event, event, event)
        assert answers[0] == answers[1] == answers[2]
        assert await gate.store.head() == 1

    run_gate(test)


@pytest.mark.parametrize("forgetful", [False, True])
def test_the_same_event_id_with_another_body_is_refused_and_leaves_the_stream_alone(forgetful):
    async def test(gate, clients):
        token = clients.token()
        event = clients.render(token)
        await gate.send(event)
        if forgetful:
            gate.restart()
        [answer] = await gate.send({**event, "width": 728})
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)
        assert len(await gate.events(token.impression)) == 3
        assert await counted(gate) == ({Reason.EVENT_ID_REUSED: 1}, 0)
        assert [body.code for body in gate.holding_store.bodies.values()] == ["event_id_reused"]

    run_gate(test)


def test_a_forged_token_never_blocks_the_true_render():
    async def test(gate, clients):
        token = clients.token()
        true = clients.render(token)
        forged = {**true, "token": true["token"][:-1] + ("0" if true["token"][-1] != "0" else "1")}
        [refused] = await gate.send(forged)
        assert (refused.status, refused.reason) == (Status.REFUSED, Reason.TOKEN_INVALID)
        assert await gate.events(token.impression) == []
        [answer] = await gate.send(true)
        assert answer.verdict is Verdict.VALID
        assert await counted(gate) == ({Reason.TOKEN_INVALID: 1}, 0)

    run_gate(test)


def test_tokens_of_another_region_and_old_tokens_are_refused():
    async def test(gate, clients):
        answers = await gate.send(
            clients.render(clients.token(region="us")),
            clients.render(clients.token(at=NOW - 604_800_001)),
            clients.render(clients.token(at=NOW - 604_800_000)),
        )
        assert [answer.reason for answer in answers] == [
            Reason.REGION_MISDIRECTED,
            Reason.TOKEN_EXPIRED,
            Reason.LATE,
        ]
        assert await counted(gate) == ({Reason.REGION_MISDIRECTED: 1, Reason.TOKEN_EXPIRED: 1}, 0)

    run_gate(test)


MALFORMED = {
    b"{": "not_json",
    b'{"event_id": "nonsense"}': "invalid",
    b'{"event_id": "7f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"}': "invalid",
    b"[]": "invalid",
    b"\xff\xfe": "not_json",
    b'{"event_id": "7f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f", "token": "\xff", "user": "\xfe"}': "not_json",
    b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}": "invalid",
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "invalid",
}


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_render_is_quarantined_and_its_neighbours_are_counted(raw):
    async def test(gate, clients):
        answers = await gate.send(clients.render(), raw, clients.render())
        assert [answer.status for answer in answers] == [Status.DECIDED, Status.QUARANTINED, Status.DECIDED]
        assert answers[1].errors[0].startswith(MALFORMED[raw])
        [body] = gate.holding_store.bodies.values()
        assert body.code == MALFORMED[raw]
        assert body.size == len(raw)
        assert len(raw) < 8 or raw not in body.sealed
        assert await gate.store.head() == 2

    run_gate(test)


@pytest.mark.parametrize("kind", ["render", "view"])
def test_what_is_larger_than_any_render_is_quarantined_whatever_it_says(kind):
    async def test(gate, clients):
        event = msgspec.json.encode(getattr(clients, kind)(clients.token()))
        padding = b" " * (RENDER_MAX_BYTES - len(event))
        largest, larger = event[:-1] + padding + b"}", event[:-1] + padding + b" }"
        [refused] = await gate.send(larger)
        assert (refused.status, str(refused.event_id)) == (Status.QUARANTINED, msgspec.json.decode(event)["event_id"])
        assert refused.errors == ("invalid at $: a render has at most 65536 bytes",)
        assert not gate.holding_store.views
        [taken] = await gate.send(largest)
        assert taken.status in {Status.DECIDED, Status.PARKED}

    run_gate(test)


def test_a_negative_time_is_quarantined_with_its_path_and_without_its_value():
    async def test(gate, clients):
        event = clients.render(client_at=-5)
        [answer] = await gate.send(event)
        [again] = await gate.send(event)
        assert answer == again
        assert answer.status is Status.QUARANTINED
        assert str(answer.event_id) == event["event_id"]
        [body] = gate.holding_store.bodies.values()
        assert body.path == "$.client_at"
        assert "-5" not in body.detail

    run_gate(test)


def test_a_quarantined_body_can_be_unsealed_with_its_days_key_only():
    async def test(gate, _):
        await gate.send(b'{"oops": 1}')
        [body] = gate.holding_store.bodies.values()
        keyring = gate.intake.keyring
        assert keyring.of(body.key_day).unseal(body.sealed, body.name) == b'{"oops": 1}'
        await keyring.ensure([body.key_day + 1], NOW, b"x" * 32)
        with pytest.raises(InvalidTag):
            keyring.of(body.key_day + 1).unseal(body.sealed, body.name)

    run_gate(test)


def test_renders_of_destroyed_days_are_expired():
    async def test(gate, clients):
        event = clients.render()
        await gate.send(event)
        await gate.intake.keyring.destroy_due(NOW + 30 * 86_400_000)
        [answer] = await gate.send(clients.render())
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.TOKEN_EXPIRED)

    run_gate(test)


def test_keys_that_are_destroyed_while_room_is_made_for_history_expire_it():
    async def test(gate, clients):
        then = NOW - 9 * DAY_MS
        gate.store.while_preparing = lambda: gate.keyring.destroy_due(NOW)
        await gate.keyring.ensure([then // DAY_MS], then, b"f" * 32)
        history = clients.render(clients.token(at=then), received_at=then, client_at=None, on_screen_at=None)
        [answer] = await gate.send(history)
        assert (answer.status, answer.reason) == (Status.REFUSED, Reason.TOKEN_EXPIRED)

    run_gate(test, PreparingStore())


def test_history_may_begin_in_the_first_hour_of_1970_and_no_day_is_before_it():
    async def test(gate, clients):
        render = clients.render(clients.token(at=600_000), received_at=601_000, client_at=None, on_screen_at=600_000)
        [answer] = await gate.send(render)
        assert answer.verdict is Verdict.VALID
        assert gate.keyring.has([0])
        assert not gate.keyring.has([-1])

    run_gate(test)


def test_received_at_needs_the_replay_scope():
    async def test(gate, clients):
        event = clients.render(received_at=NOW - 1_000)
        [refused] = await gate.send(event, scopes=frozenset({"ingest"}))
        assert refused.status is Status.QUARANTINED
        token = clients.token(at=1_431_857_103_000)
        replayed = clients.render(token, received_at=1_431_857_104_000, client_at=None, on_screen_at=1_431_857_103_000)
        [answer] = await gate.send(replayed)
        assert answer.verdict is Verdict.VALID
        events = await gate.events(token.impression)
        assert events[0].received_at == 1_431_857_104_000
        assert events[2].cut.data_set == "replay"
        assert minted_at(token.impression) == 1_431_857_103_000

    run_gate(test)


def test_history_that_lies_in_the_future_is_quarantined():
    async def test(gate, clients):
        ahead = PACK.clock_ahead_max_ms
        [taken] = await gate.send(clients.render(received_at=NOW + ahead))
        [refused] = await gate.send(clients.render(received_at=NOW + ahead + 1))
        assert (taken.status, refused.status) == (Status.DECIDED, Status.QUARANTINED)
        assert "received_at is in the future" in refused.errors[0]

    run_gate(test)


def test_agent_and_network_are_believed_only_of_callers_with_ingest_scope():
    async def test(gate, clients):
        token = clients.token()
        [answer] = await gate.send(clients.render(token, agent="a bot"), scopes=frozenset())
        assert answer.verdict is Verdict.VALID

    run_gate(test)


def test_loaded_then_begin_to_render_counts_once_and_a_third_render_is_a_repeat():
    async def test(gate, clients):
        token = clients.token(surface=Surface.AUDIENCE_NETWORK)
        loaded = clients.render(token, omid_type=OmidType.LOADED, on_screen_at=None)
        begun = clients.render(token, omid_type=OmidType.BEGIN_TO_RENDER, on_screen_at=None)
        again = clients.render(token, omid_type=OmidType.BEGIN_TO_RENDER, on_screen_at=None)
        answers = await gate.send(loaded, begun, again)
        assert [answer.reason for answer in answers] == [Reason.NOT_BEGUN, None, Reason.DUPLICATE_RENDER]
        state = await gate.state(token.impression)
        assert state.standing == Valid(billable_micros=PRICE)
        assert state.repeats == 1
        assert len(await gate.store.read_all(0, 10)) == 1
        for forgetful in (False, True):
            if forgetful:
                gate.restart()
            assert await gate.send(again, begun, loaded) == answers[::-1]
        assert len(await gate.store.read_all(0, 10)) == 1

    run_gate(test)


def test_another_process_that_wrote_first_wins():
    async def test(gate, clients):
        other = KitGate(gate.store, gate.holding_store, gate.day_keys)
        token = clients.token()
        one, two = clients.render(token), clients.render(token)
        [theirs] = await other.send(one)
        [ours] = await gate.send(two)
        assert (theirs.verdict, ours.verdict) == (Verdict.VALID, Verdict.DUPLICATE)
        [same] = await gate.send(one)
        assert same == theirs

    run_gate(test)


def test_a_ledger_that_is_down_answers_nothing_and_the_retry_is_counted_once():
    async def test(gate, clients):
        event = clients.render()
        append = gate.store.append

        async def lost(appends, at):
            await append(appends, at)
            raise LedgerUnavailable("the answer was lost")

        gate.store.append = lost
        with pytest.raises(LedgerUnavailable):
            await gate.send(event)
        gate.store.append = append
        [answer] = await gate.send(event)
        assert answer.verdict is Verdict.VALID
        assert len(await gate.store.read_all(0, 10)) == 1

    run_gate(test)


def test_a_thousand_mixed_renders_answer_in_order():
    async def test(gate, clients):
        events = []
        for n in range(200):
            token = clients.token()
            events += [clients.render(token), clients.view(token), b"junk%d" % n, clients.render(token)]
        answers = await gate.send(*events)
        assert [answer.status for answer in answers[:4]] == [
            Status.DECIDED,
            Status.RECORDED,
            Status.QUARANTINED,
            Status.DECIDED,
        ]
        for event, answer in zip(events, answers, strict=True):
            if not isinstance(event, bytes):
                assert str(answer.event_id) == event["event_id"]
        assert len(gate.holding_store.bodies) == 200
        state = await gate.state(answers[0].impression_id)
        assert isinstance(state, Decided)
        assert msgspec.json.decode(msgspec.json.encode(answers))[0]["verdict"] == "valid"

    run_gate(test)


def test_a_decision_on_lists_that_nobody_refreshed_says_so():
    async def test(gate, clients):
        gate.lists.refreshed_at = NOW - 7 * 86_400_000
        [fresh] = await gate.send(clients.render())
        gate.lists.refreshed_at -= 1
        [stale] = await gate.send(clients.render())
        assert (fresh.rung, stale.rung) == (Rung.MODEL_FALLBACK, Rung.STALE_LISTS)

    run_gate(test)


def test_what_the_quarantine_has_no_room_for_is_deferred_and_nothing_else_of_the_batch(monkeypatch):
    monkeypatch.setattr(ingest, "ROOM", Room(bodies=1))

    async def test(gate, clients):
        event = clients.render()
        answers = await gate.send(b'{"broken": 1}', b'{"broken": 2}', event, b'{"broken": 1}')
        kept = Status.QUARANTINED
        assert [answer.status for answer in answers] == [kept, Status.DEFERRED, Status.DECIDED, kept]
        assert answers[1].errors == ("there is no room for another event that cannot be read; send it again later",)
        [reused] = await gate.send({**event, "width": 301})
        assert (reused.status, reused.reason) == (Status.REFUSED, Reason.EVENT_ID_REUSED)
        assert len(gate.holding_store.bodies) == 1

    run_gate(test)
