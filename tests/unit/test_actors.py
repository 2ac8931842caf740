"""What a worker makes of messages: done, left for later, or dead and kept; on Dramatiq's own broker in memory."""

import asyncio
import sys
import threading
from contextlib import contextmanager
from uuid import UUID

import pytest
from dramatiq import Message as DramatiqMessage
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries
from prometheus_client import CollectorRegistry

from commands.labelling import CannotBeApplied, Labelled
from commands.messages import BrokerUnavailable, Message, apply_feedback
from ledger.store import LedgerUnavailable
from service import actors
from service.actors import WorkMetrics, declare
from service.broker import DramatiqMessages, Undertaker, open_broker, speaks_amqp
from service.machine import children
from service.processes import LauncherError
from service.settings import Settings
from service.work import _runner

ID = UUID(int=7)


@contextmanager
def loop_elsewhere():
    """An event loop in a thread of its own, as a work process's main thread has one."""
    loop, run = asyncio.new_event_loop(), []

    def main():
        run.append(_runner(loop))
        loop.call_soon(started.set)
        loop.run_forever()

    started = threading.Event()
    thread = threading.Thread(target=main)
    thread.start()
    assert started.wait(10)
    yield run[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


class Work:
    def __init__(self, broker, registry, seen, buried):
        self.broker, self.registry, self.seen, self.buried = broker, registry, seen, buried

    def do(self, *messages):
        for message in messages:
            args = message.args
            self.broker.enqueue(DramatiqMessage(message.queue, message.actor, args, kwargs={}, options={}))
        self.broker.join("feedback", timeout=10_000, fail_fast=False)
        self.worker.join()

    def counted(self, outcome):
        labels = {"actor": "apply_feedback", "outcome": outcome}
        return self.registry.get_sample_value("impledger_work_messages_total", labels) or 0


@contextmanager
def working(fate, retries=0):
    """A worker whose actor ends in *fate*, an error or None, each time."""
    seen, buried, registry = [], [], CollectorRegistry()

    async def apply(ids):
        seen.append(list(ids))
        if fate is not None:
            raise fate

    bury = Undertaker(lambda message, error: buried.append((message, error)))
    broker = StubBroker(middleware=[Retries(max_retries=retries, min_backoff=1, max_backoff=2), bury])
    with loop_elsewhere() as run:
        declare(broker, run, apply, apply, WorkMetrics(registry))
        work = Work(broker, registry, seen, buried)
        work.worker = Worker(broker, worker_threads=1, worker_timeout=10)
        work.worker.start()
        yield work
        work.worker.stop()
        broker.close()


def test_a_message_hands_its_ids_to_the_work():
    with working(None) as work:
        work.do(apply_feedback([ID, UUID(int=8)]))
        assert work.seen == [[ID, UUID(int=8)]]
        assert (work.counted("done"), work.buried) == (1, [])


@pytest.mark.parametrize("fate", [LedgerUnavailable("away"), BrokerUnavailable("away")])
def test_while_a_store_is_away_the_work_is_left_for_later_and_nothing_dies(fate):
    with working(fate) as work:
        work.do(apply_feedback([ID]))
        assert (work.counted("later"), work.buried) == (1, [])


def test_what_fails_is_tried_again_then_kept_as_it_was_with_its_error():
    with working(CannotBeApplied("it is torn"), retries=2) as work:
        work.do(apply_feedback([ID]))
        assert work.counted("failed") == len(work.seen) == 3
        [(message, error)] = work.buried
        assert message == apply_feedback([ID])
        assert error.strip().endswith("CannotBeApplied: it is torn")


def test_what_takes_too_long_fails(monkeypatch):
    monkeypatch.setattr(actors, "WITHIN_S", 0.01)

    async def never():
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        asyncio.run(actors._tried("x", never(), WorkMetrics(CollectorRegistry())))


def test_a_message_for_an_actor_that_this_version_does_not_know_is_kept():
    with working(None) as work:
        work.do(Message("feedback", "of_tomorrow", (1,)))
        [(message, error)] = work.buried
        assert message == Message("feedback", "of_tomorrow", (1,))
        assert "ActorNotFound" in error


def test_a_loop_does_not_wait_for_itself():
    async def main():
        run = _runner(asyncio.get_running_loop())
        work = asyncio.sleep(0)
        with pytest.raises(AssertionError, match="wait for itself"):
            run(work)
        work.close()

    asyncio.run(main())


def test_what_became_of_feedback_is_counted():
    registry = CollectorRegistry()
    WorkMetrics(registry).labelled(Labelled(applied=3, parked=2, failing={ID: "torn"}))
    for outcome, count in {"applied": 3, "parked": 2, "orphaned": 0, "failing": 1}.items():
        assert registry.get_sample_value("impledger_feedback_processed_total", {"outcome": outcome}) == count


def test_a_broker_that_does_not_answer_is_told_apart_from_a_bug(tmp_path):
    async def main():
        messages = DramatiqMessages(open_broker(f"unix://{tmp_path}/nobody.sock"))
        with pytest.raises(BrokerUnavailable):
            await messages.send(apply_feedback([ID]))
        with pytest.raises(BrokerUnavailable):
            await messages.depth("feedback")
        await messages.close()

    asyncio.run(main())


def test_rabbitmq_needs_its_extra_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pika", None)
    monkeypatch.delitem(sys.modules, "dramatiq.brokers.rabbitmq", raising=False)
    for url in ("amqp://guest@127.0.0.1:1", "amqps://guest@127.0.0.1:1"):
        assert speaks_amqp(url)
        with pytest.raises(LauncherError, match="Install the extra `amqp`"):
            open_broker(url)
        with pytest.raises(LauncherError, match="Install the extra `amqp`"):
            children(Settings(broker_url=url))
    assert not speaks_amqp("redis://127.0.0.1:1")
