"""A gate takes up publishers' history as soon as it is published, and leaves the rung without it."""

import asyncio

import pytest
from gatekit import NOW

from commands.ladder import Ladder
from domain.vocabulary import Rung
from ledger.memory import MemoryStore
from ledger.postgres_connection import PostgresConnection
from ml.context.histories import PostgresHistories
from ml.features.publishers import History, PublisherHistory
from service.gate_models import HISTORY_POLL_S, GateModels
from service.settings import Settings

pytestmark = pytest.mark.slow


def test_a_gate_takes_up_what_is_published(postgres_url):
    async def main():
        published = History(NOW, {"app-1": PublisherHistory(0.1, 0.2, 3.0)})
        now = [0.0]
        ladder, connection = Ladder(lambda: now[0]), PostgresConnection(postgres_url, deadline_s=5.0)
        models = GateModels(Settings(), MemoryStore(), postgres_url, "gate", ladder)
        scoring = models.scoring(lambda: None, b"root" * 8)
        [look_up] = [work for every_s, work in models.works() if every_s == HISTORY_POLL_S]
        try:
            await look_up()
            ladder.tick()
            assert (scoring.history.publishers, Rung.NO_ASYNC in ladder.in_force) == ({}, True)
            await PostgresHistories(connection).publish(published)
            await look_up()
            assert scoring.history == published
            for now[0] in range(10):
                ladder.tick()
            assert Rung.NO_ASYNC not in ladder.in_force
        finally:
            await models.close()
            await connection.close()

    asyncio.run(main())
