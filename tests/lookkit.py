"""Impressions of persons, a model that looks again, and all that chooses, enqueues and looks, in memory."""

from uuid import UUID

from builders import MINTED, SECOND, a_render, a_token, admit, cause, decide
from modelkit import an_artifact, trees
from msgspec.structs import replace

from commands.choosing import Chooser
from commands.looks_dispatch import LooksDispatcher
from commands.messages import REEVALUATIONS_QUEUE, MemoryMessages
from commands.reevaluated import MemoryReevaluated
from commands.reevaluating import NoModel, Reevaluator
from commands.reevaluations import MemoryReevaluations
from domain.decide import AttachLabel
from domain.feedback import SOURCES
from domain.ids import day_of, mint
from domain.impression import Unseen, fold
from domain.placement_events import Stage
from domain.reevaluation import LookTimes
from domain.vocabulary import DataSet, Label, LabelSource, Rung
from ledger.codec import decode_impression
from ledger.following import Page, advance
from ledger.memory import MemoryStore
from ledger.store import READ_MAX, Append
from ml.context.follower import LaterFollower
from ml.context.look import Surroundings
from ml.context.store import MemoryLater
from ml.features.later import LATER_SCHEMA_ID
from ml.features.schema import SCHEMA
from ml.models.artifact import dump, model_id
from ml.models.s3 import LaterScorer
from service.second_look import SecondLook

NOW = MINTED + 3_600_000
TIMES = LookTimes()
NEXT_HOUR = len(SCHEMA) + 6
"""The column of what a person did in the hour after."""
DAYS = 9


def an_impression(number):
    return mint(NOW - 5 * SECOND, 7, number)


def ids(*numbers):
    return [an_impression(number) for number in numbers]


def a_page(after, through, at=NOW):
    return Page(after=after, through=through, at=at, seen=())


def a_first(
    number, at=NOW, *, person="a person", also=(), shed=False, propensity=None, cause_id=None, begun=True, **token
):
    """The append of a first render, recorded at *at*."""
    impression = an_impression(number)
    render = a_render(on_screen_at=at - SECOND, event_id=cause_id or cause())
    command = admit(token=a_token(impression=impression, **token), render=render, received_at=at, also=also)
    scored = replace(command.scored, propensity=propensity, rung=Rung.SHED if shed else Rung.FULL)
    rendered = replace(command.rendered, user=person, begun=begun)
    return Append(
        stream=impression,
        expected=0,
        cause=rendered.cause,
        digest=rendered.digest,
        events=decide(Unseen(), replace(command, rendered=rendered, scored=scored)),
    )


async def append(ledger, number, command, at=NOW):
    """Append what *command* leads to in the impression's stream; return whether it led to anything."""
    impression = an_impression(number)
    commits = (await ledger.read_streams([impression], READ_MAX))[impression]
    state = fold(event for commit in commits for event in decode_impression(commit.data))
    events = decide(state, command)
    if events:
        version = commits[-1].version + commits[-1].count
        named = events[0]
        await ledger.append(
            [Append(stream=impression, expected=version, cause=named.cause, digest=named.digest, events=events)], at
        )
    return bool(events)


def a_lesson(source=LabelSource.THIRD_PARTY, label=Label.INVALID, at=NOW, id_=None):
    return AttachLabel(
        cause=id_ or cause(),
        digest=f"{source}{label}",
        source=source,
        label=label,
        weight=SOURCES[source].weight,
        observed_at=at - SECOND,
        received_at=at,
    )


def a_later_artifact(margin=None, column=NEXT_HOUR, **changes):
    """A model that finds invalid whoever had more than two renders in the hour after, or all by the same *margin*."""
    grown = trees((column, 2.5, True, -4.0, 4.0)) if margin is None else trees((0, 0.0, True, margin, margin))
    return an_artifact(grown, **{"stage": Stage.S3, "schema_id": LATER_SCHEMA_ID, **changes})


def a_later_model(margin=None, **changes):
    artifact = a_later_artifact(margin, **changes)
    return LaterScorer(artifact, model_id(dump(artifact), Stage.S3))


class Models:
    """What finds the model, in memory; None: there is none."""

    def __init__(self, model):
        self.model = model

    async def current(self):
        if self.model is None:
            raise NoModel
        return self.model


class Kit:
    """A follower, a scheduler and a worker over stores in memory, or over those that are handed in."""

    def __init__(self, *, ledger=None, noted=None, found=None, later=None, messages=None, model="", times=TIMES):
        self.now = NOW
        self.ledger = ledger or MemoryStore()
        self.noted = noted or MemoryReevaluations()
        self.found = found or MemoryReevaluated()
        self.later = later or MemoryLater()
        self.messages = messages or MemoryMessages()
        self.models = Models(a_later_model() if model == "" else model)
        self.times = times
        self.dispatcher = LooksDispatcher(noted=self.noted, found=self.found, messages=self.messages, clock=self.clock)

    def clock(self):
        return self.now

    def followers(self):
        chooser = Chooser(self.noted, self.times, self.later.others, self.clock)
        return LaterFollower(self.ledger, self.later), chooser

    def a_reevaluator(self):
        return Reevaluator(
            ledger=self.ledger,
            noted=self.noted,
            found=self.found,
            reviewer=SecondLook(self.models, Surroundings(self.later), self.clock),
            clock=self.clock,
        )

    async def open(self, *appends):
        await self.ledger.prepare_days(day_of(NOW - 86_400_000), day_of(NOW + DAYS * 86_400_000), DataSet.LIVE)
        for one in appends:
            await self.ledger.append([one], self.now)

    async def follow(self, limit=1_000):
        while await advance(self.ledger, self.followers(), limit=limit, clock=self.clock) == limit:
            pass

    async def look(self, *numbers):
        return await self.a_reevaluator().look([an_impression(number) for number in numbers])

    async def work(self):
        """Enqueue what is due and look at all that is enqueued."""
        await self.dispatcher.sweep()
        queue = self.messages.queues.get(REEVALUATIONS_QUEUE, [])
        while queue:
            await self.a_reevaluator().look([UUID(one) for one in queue.popleft().args[0]])

    async def after(self, ms):
        """Let time pass; follow, enqueue and look."""
        self.now += ms
        await self.follow()
        await self.work()

    async def whys(self):
        return sorted((impression.int & 0xFFFF, why.value) for impression, why in self.noted.rows)
