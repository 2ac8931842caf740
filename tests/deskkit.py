"""What tests of the read side share: a ledger full of impressions, and one embedded ClickHouse per process."""

import asyncio
import atexit
import random
import shutil
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from uuid import UUID

from builders import (
    DAY,
    HOUR,
    MINTED,
    SECOND,
    a_correction,
    a_label,
    a_render,
    a_reprice,
    a_token,
    a_view,
    admit,
    an_expiry,
    cause,
)

from domain.aggregates import AnswersCounted
from domain.decide import CommandRefused, decide
from domain.ids import day_of, mint
from domain.impression import Unseen, fold
from domain.reasons import Reason
from domain.sequences import SequenceCount, SequencesCounted
from domain.serves import AdsServed, ServedCount
from domain.vocabulary import Authority, BillingEvent, DataSet, Format, Surface
from ledger.codec import encode
from ledger.memory import MemoryStore
from ledger.store import Append, Commit
from projections.engine import Engine

_databases = count(1)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, at=MINTED):
        self.at = at

    def __call__(self):
        return self.at

    def pass_by(self, milliseconds):
        self.at += milliseconds


class Crash(BaseException):
    """The process ends here."""


def a_commit(events, *, position=1, stream=None, version=0, recorded_at=MINTED):
    return Commit(
        position=position,
        stream=mint(MINTED, 7, 1) if stream is None else stream,
        version=version,
        count=len(events),
        cause=events[0].cause,
        digest=events[0].digest,
        recorded_at=recorded_at,
        data=encode(events),
    )


def commits_of(*histories):
    """Commits of impressions, one per command that leads to events; *histories* are lists of commands."""
    commits = []
    for number, history in enumerate(histories, 1):
        state, version = Unseen(), 0
        for command in history:
            try:
                events = decide(state, command)
            except CommandRefused:
                continue
            if events:
                stream = mint(MINTED, 7, number)
                commits.append(a_commit(events, position=len(commits) + 1, stream=stream, version=version))
                state, version = fold(events, state), version + len(events)
    return commits


async def fill(store, impressions, seed=1, hours=30):
    """
    Append the stories of that many impressions to *store*, in turns; return how many appends there were.

    They spread over *hours*, four campaigns, all ways to be billed, and everything that may happen to one. Between them
    stand answers, reports of what was served, and counts of missing numbers.
    """
    chance = random.Random(seed)
    first = day_of(MINTED)
    await store.prepare_days(first - timedelta(days=1), first + timedelta(days=2 + hours // 24), DataSet.LIVE)
    stories = [
        (mint(at, number % 4_096, seed << 40 | number), _story(chance, at))
        for number, at in _moments(chance, impressions, hours)
    ]
    appends = 0
    while stories:
        impression, state_and_story = stories.pop(chance.randrange(len(stories)))
        (state, version), commands = state_and_story
        events = _events_of(state, commands.pop(0))
        if events:
            appends += 1
            await _append(store, impression, version, events)
            if appends % 7 == 0:
                await _append(store, f"rejects-eu-{seed}-{appends}", 0, (_answers(chance),))
            if appends % 6 == 0:
                await _append(store, f"serves-edge-{seed}-{appends}", 0, (_report(appends, seed, hours),))
            if appends % 11 == 0:
                await _append(store, f"sequences-eu-{seed}-{appends}", 0, (_sequences(appends),))
        if commands:
            after = (fold(events, state) if events else state, version + len(events))
            stories.append((impression, (after, commands)))
    return appends + appends // 7 + appends // 6 + appends // 11


def _moments(chance, impressions, hours):
    return [(number, MINTED + chance.randrange(hours * HOUR)) for number in range(1, impressions + 1)]


def _events_of(state, command):
    try:
        return decide(state, command)
    except CommandRefused:
        return ()


async def _append(store, stream, version, events):
    append = Append(stream=stream, expected=version, cause=events[0].cause, digest=events[0].digest, events=events)
    [outcome] = await store.append([append], MINTED + DAY)
    assert type(outcome).__name__ == "Appended"


def _answers(chance):
    refused = {Reason.TOKEN_INVALID: chance.randrange(1, 9), Reason.EVENT_ID_REUSED: 1}
    return AnswersCounted(cause=cause(), digest="d", refused=refused, unmoved=chance.randrange(3), counted_at=MINTED)


def _report(number, seed, hours):
    """A report of what delivery served of the same campaigns, in one of the minutes."""
    chance = random.Random(f"{seed} {number}")
    at = MINTED + chance.randrange(hours * HOUR)
    counts = tuple(
        ServedCount(f"campaign-{n}", Surface.FEED, Format.DISPLAY, f"12.{n}", "EUR", number + n, 1_500 * number)
        for n in range(1 + chance.randrange(4))
    )
    return AdsServed(
        cause=cause(),
        digest="d",
        source=f"edge-{seed}",
        minute=at - at % 60_000,
        sequence=number % 600,
        region="eu",
        received_at=at,
        counts=counts,
    )


def _sequences(number):
    at = MINTED - MINTED % 60_000 + number * 60_000
    counts = (
        SequenceCount(at, Surface.FEED, "12.0", 3 * number, number % 5, 0, number % 2, 0),
        SequenceCount(at, Surface.REELS, "12.1", 0, -1, 1, 0, 1),
    )
    return SequencesCounted(cause=cause(), digest="", counted_at=at, counts=counts)


def _story(chance, at):
    """Where an impression begins, and the commands that will be tried on it."""
    token = a_token(
        campaign=f"campaign-{chance.randrange(4)}",
        creative=f"creative-{chance.randrange(9)}",
        surface=chance.choice([Surface.FEED, Surface.REELS, Surface.AUDIENCE_NETWORK]),
        billing_event=chance.choice(list(BillingEvent)),
        price_micros=chance.choice([0, 1_500, 2_000]),
        flight_end=at + 30 * DAY,
    )
    found = chance.choice(
        [(), (), (), (Reason.RISK_GREY,), (Reason.RATE_ABUSIVE,), (Reason.STACKED,), (Reason.DOUBLE_FIRE,)]
    )
    data_set = DataSet.REPLAY if chance.random() < 0.1 else DataSet.LIVE
    seen = chance.choice(
        [{}, {}, {"visible_ratio": 0.9, "visible_ms": 1_500}, {"visible_ratio": 0.1, "visible_ms": 100}]
    )
    begun = chance.choice([{}, {}, {"prefetched": True, "on_screen_at": None}, {"on_screen_at": None}])

    def a_claim(also=(), **changes):
        claimed = {"on_screen_at": at + SECOND, "sdk": f"12.{chance.randrange(3)}", "country": "DE", **changes}
        return admit(render=a_render(**claimed), token=token, received_at=at + 2 * SECOND, also=also, data_set=data_set)

    later = [
        a_claim,
        a_claim,
        lambda: a_view(received_at=at + 5 * SECOND),
        lambda: a_view(received_at=at + 4 * SECOND, visible_ratio=0.2, visible_ms=100),
        lambda: a_correction(
            chance.choice([None, Reason.RISK_HIGH, Reason.AGENT_DECLARED_BOT]), chance.choice(list(Authority)[1:])
        ),
        lambda: a_reprice(chance.choice([0, 1_000])),
        lambda: an_expiry(at + 4 * DAY),
        lambda: a_label(at=at + HOUR),
    ]
    rest = [make() for make in chance.choices(later, k=chance.choice([0, 0, 0, 1, 1, 2, 4]))]
    return (Unseen(), 0), [a_claim(found, **begun, **seen), *rest]


def a_full_store(impressions=300, seed=1):
    store = MemoryStore()
    asyncio.run(fill(store, impressions, seed))
    return store


@cache
def _folder():
    """Of this process; it is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="clickhouse-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def an_engine():
    """An engine with an empty database of its own; a process has one engine at a time, so it must be closed."""
    engine = Engine(f"chdb://{_folder()}", f"test_{next(_databases)}")
    try:
        yield engine
    finally:
        engine.close()


def an_id(number) -> UUID:
    return mint(MINTED, 7, number)
