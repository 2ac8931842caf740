"""A stream that cannot be read: whoever is about it waits, everybody else is served, and a gate starts all the same."""

import pytest
from damagekit import DAMAGE, damage, mend
from gatekit import run_gate
from structlog.testing import capture_logs

from commands.items import Status
from commands.recall import recall
from domain.reasons import Reason
from domain.standing import Valid
from ledger.memory import MemoryStore
from ledger.store import READ_MAX


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kind", ["view", "render"])
def test_what_is_about_it_is_deferred_and_its_neighbours_are_decided(kind, how):
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        damage(gate.store, token.impression, how)
        gate.restart()
        about = clients.view(token) if kind == "view" else clients.render(token)
        answers = await gate.send(clients.render(), about, clients.render())
        assert [answer.status for answer in answers] == [Status.DECIDED, Status.DEFERRED, Status.DECIDED]
        assert (answers[1].impression_id, str(answers[1].event_id)) == (token.impression, about["event_id"])
        assert answers[1].errors
        assert await gate.store.head() == 3

    run_gate(test)


def test_its_senders_are_told_of_once_in_the_log():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        damage(gate.store, token.impression)
        gate.restart()
        with capture_logs() as logs:
            for _ in range(3):
                await gate.send(clients.view(token))
        assert [entry["event"] for entry in logs] == ["a stream cannot be read"]

    run_gate(test)


def test_once_it_can_be_read_again_what_was_deferred_is_taken():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        good = damage(gate.store, token.impression)
        gate.restart()
        view = clients.view(token)
        assert [answer.status for answer in await gate.send(view)] == [Status.DEFERRED]
        mend(gate.store, good)
        assert [answer.status for answer in await gate.send(view)] == [Status.RECORDED]
        assert isinstance((await gate.state(token.impression)).standing, Valid)

    run_gate(test)


def test_a_stream_longer_than_one_read_is_no_reason_to_fail_others():
    async def test(gate, clients):
        token = clients.token()
        await gate.send(clients.render(token))
        gate.store.long = token.impression
        gate.restart()
        answers = await gate.send(clients.view(token), clients.render())
        assert [answer.status for answer in answers] == [Status.DEFERRED, Status.DECIDED]

    run_gate(test, Long())


def test_a_gate_that_starts_remembers_all_commits_but_that_one():
    async def test(gate, clients):
        tokens = [clients.token(placement=f"placement-{number}") for number in range(3)]
        await gate.send(*(clients.render(token, user="u") for token in tokens))
        damage(gate.store, tokens[1].impression)
        gate.restart()
        assert await recall(gate.store, 1_000, [gate.ingest.recall]) == 3
        again = [clients.render(clients.token(placement=token.placement), user="u") for token in tokens]
        reasons = [answer.reason for answer in await gate.send(*again)]
        assert reasons == [Reason.DOUBLE_FIRE, None, Reason.DOUBLE_FIRE]

    run_gate(test)


class Long(MemoryStore):
    """Stands for a stream of more commits than one read returns."""

    long = None

    async def read_streams(self, streams, limit):
        found = await super().read_streams(streams, limit)
        return {stream: commits * READ_MAX if stream == self.long else commits for stream, commits in found.items()}
