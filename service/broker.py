"""
The message broker by Dramatiq: Valkey or Redis, or RabbitMQ.

A broker may lose all that it holds and nothing is lost: what is to be done stands in PostgreSQL until it is done.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import redis
import structlog
from dramatiq import Broker, MessageProxy, Middleware
from dramatiq import Message as DramatiqMessage
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import dq_name
from dramatiq.errors import DramatiqError
from dramatiq.middleware import Retries

from commands.messages import FEEDBACK_QUEUE, BrokerUnavailable, Message
from service.processes import LauncherError

RETRIES_MAX = 2
RETRY_MIN_MS, RETRY_MAX_MS = 1_000, 10_000
HEARTBEAT_TIMEOUT_MS = 5_000
MAINTENANCE_CHANCE = 200_000
"""Of a million commands. With these two a killed worker's message comes back after 10 s; on defaults not within 40."""
DEAD_MESSAGE_TTL_MS = 3_600_000
"""The broker's own dead letters: ours are in PostgreSQL."""
_ANSWER_WITHIN_S = 5.0
_AMQP = frozenset({"amqp", "amqps"})

log = structlog.get_logger(__name__)

Bury = Callable[[Message, str], None]
"""Keeps a message that is dead, and why; blocks until it is durable, or says that it is not."""


def open_broker(url: str, bury: Bury | None = None) -> Broker:
    """
    Return the broker at *url*; it connects when it is first asked. *bury* gets every message that dies here.

    Raises:
        LauncherError: what it takes to speak AMQP is not installed.
    """
    middleware: list[Middleware] = [
        Retries(max_retries=RETRIES_MAX, min_backoff=RETRY_MIN_MS, max_backoff=RETRY_MAX_MS)
    ]
    if bury is not None:
        middleware.append(Undertaker(bury))
    if speaks_amqp(url):
        return _rabbitmq(url, middleware)
    client = redis.Redis.from_url(url, socket_timeout=_ANSWER_WITHIN_S, socket_connect_timeout=_ANSWER_WITHIN_S)
    return RedisBroker(  # type: ignore[no-untyped-call]
        client=client,
        middleware=middleware,
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=MAINTENANCE_CHANCE,
        dead_message_ttl=DEAD_MESSAGE_TTL_MS,
    )


def speaks_amqp(url: str) -> bool:
    return urlsplit(url).scheme in _AMQP


def flaw_of_amqp(url: str) -> str | None:
    """Say why the RabbitMQ server at *url* cannot be used, None if it answers."""
    try:
        _depth(open_broker(url), FEEDBACK_QUEUE)
    except LauncherError as error:
        return str(error)
    except _unanswered() as error:
        return f"does not answer: {str(error) or type(error).__name__}"
    return None


class DramatiqMessages:
    """`Messages` on *broker*, whose calls block: they take turns in a thread of their own."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="messages")

    async def send(self, message: Message) -> None:
        await self._ask(self._broker.enqueue, _outgoing(message))

    async def depth(self, queue: str) -> int:
        return int(await self._ask(_depth, self._broker, queue))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._broker.close)
        self._thread.shutdown()

    async def _ask(self, question: Callable[..., Any], *arguments: object) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, question, *arguments)
        except _unanswered() as error:
            raise BrokerUnavailable(f"the broker did not answer: {error}") from error


class Undertaker(Middleware):
    """Hands every message that dies to *bury* before the broker puts it where it forgets it."""

    def __init__(self, bury: Bury) -> None:
        self._bury = bury

    def before_nack(self, _: Broker, message: MessageProxy) -> None:
        options = message.options
        error = str(options.get("traceback") or repr(getattr(message, "_exception", None)))
        self._bury(Message(message.queue_name, message.actor_name, tuple(message.args)), error)


def _outgoing(message: Message) -> "DramatiqMessage[None]":
    return DramatiqMessage(queue_name=message.queue, actor_name=message.actor, args=message.args, kwargs={}, options={})


def _depth(broker: Broker, queue: str) -> int:
    if isinstance(broker, RedisBroker):
        waiting = [broker.client.hlen(f"{broker.namespace}:{name}.msgs") for name in (queue, dq_name(queue))]
        return sum(waiting)
    broker.declare_queue(queue, ensure=True)  # type: ignore[call-arg]
    ready, delayed, _ = broker.get_queue_message_counts(queue)  # type: ignore[attr-defined]
    return int(ready + delayed)


def _rabbitmq(url: str, middleware: list[Middleware]) -> Broker:
    try:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise LauncherError(
            "IMPLEDGER_BROKER_URL names a RabbitMQ server, and pika, which speaks to one, is not installed. "
            "Install the extra `amqp`, or name a redis:// server."
        ) from error
    return RabbitmqBroker(url=url, middleware=middleware, confirm_delivery=True)


def _unanswered() -> tuple[type[Exception], ...]:
    """Return what drivers raise where a broker does not answer."""
    errors: tuple[type[Exception], ...] = (redis.RedisError, DramatiqError, OSError)
    try:
        from pika.exceptions import AMQPError  # noqa: PLC0415 (an extra)
    except ImportError:
        return errors
    return (*errors, AMQPError)
