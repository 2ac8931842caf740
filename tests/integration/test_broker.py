"""Messages over Valkey: sent, counted, and a dead worker's come back."""

import asyncio
from uuid import UUID

import pytest

from commands.messages import FEEDBACK_QUEUE, apply_feedback
from service.broker import DramatiqMessages, open_broker
from service.embedded_valkey import ValkeyServer

pytestmark = pytest.mark.slow


def test_messages_wait_in_the_queue_until_they_are_done(tmp_path):
    server = ValkeyServer(tmp_path)
    server.start()

    async def main():
        broker = open_broker(server.url)
        messages = DramatiqMessages(broker)
        assert await messages.depth(FEEDBACK_QUEUE) == 0
        await messages.send(apply_feedback([UUID(int=1)]))
        await messages.send(apply_feedback([UUID(int=2)]))
        consumer = broker.consume(FEEDBACK_QUEUE, prefetch=1, timeout=10)
        taken = next(consumer)
        assert taken.args == ([str(UUID(int=1))],)
        assert await messages.depth(FEEDBACK_QUEUE) == 2, "what is being worked on is not done"
        consumer.ack(taken)
        assert await messages.depth(FEEDBACK_QUEUE) == 1
        consumer.close()
        await messages.close()
        broker.client.close()

    try:
        asyncio.run(main())
    finally:
        server.stop()
