"""Which model looks again: the champion of its stage, what takes its place where it cannot be used, and none."""

import asyncio
from uuid import UUID

import pytest
from lookkit import NOW, a_later_artifact
from modelkit import an_artifact
from structlog.testing import capture_logs

from commands.reevaluating import NoModel
from domain.placement_events import Role, Stage
from domain.placing import PlaceModel, RetireModel
from ledger.memory import MemoryStore
from ml.features.schema import SCHEMA_ID
from ml.models.artifact import SchemaMismatch, dump
from ml.registry.memory import MemoryModels
from ml.registry.placing import ModelPlacements
from ml.registry.registry import add_model
from service.later_models import POLL_MS, LaterModels

BYTES = [dump(a_later_artifact(float(margin))) for margin in (1, 2, 3)]


class Kit:
    def __init__(self):
        self.now = NOW
        self.ledger, self.models = MemoryStore(), MemoryModels()
        self.placements = ModelPlacements(self.ledger, self.models, self.clock)
        self.later = LaterModels(self.ledger, self.models, self.clock)
        self.commands = 0

    def clock(self):
        return self.now

    async def add(self, *datas):
        added = []
        for data in datas:
            self.now += 1
            entry, _ = await add_model(self.models, data, by="somebody", at=self.now)
            added.append(entry.model)
        return added

    def asked(self):
        self.commands += 1
        number = self.commands
        return {
            "cause": UUID(int=number),
            "digest": str(number),
            "by": "somebody",
            "reason": "a test",
            "decided_at": self.now,
        }

    async def promote(self, model):
        await self.placements.handle(PlaceModel(**self.asked(), model=model, role=Role.CHAMPION))

    async def retire(self, model):
        await self.placements.handle(RetireModel(**self.asked(), model=model))

    async def looks(self):
        self.now += POLL_MS
        return (await self.later.current()).id


def run(test):
    asyncio.run(test())


def test_the_champion_looks_and_the_next_one_once_it_is_promoted():
    async def test():
        kit = Kit()
        first, second, newest = await kit.add(*BYTES)
        await kit.promote(first)
        assert await kit.looks() == first
        await kit.promote(second)
        assert (await kit.later.current()).id == first
        assert await kit.looks() == second
        assert newest not in {first, second}

    run(test)


def test_without_a_champion_the_newest_looks():
    async def test():
        kit = Kit()
        with pytest.raises(NoModel):
            await kit.looks()
        first, second = await kit.add(*BYTES[:2])
        assert await kit.looks() == second
        await kit.promote(first)
        assert await kit.looks() == first

    run(test)


def test_who_retires_the_champion_wants_nothing_looked_at():
    async def test():
        kit = Kit()
        [first, _] = await kit.add(*BYTES[:2])
        await kit.promote(first)
        await kit.retire(first)
        with pytest.raises(NoModel):
            await kit.looks()

    run(test)


def test_a_damaged_champion_is_refused_told_once_and_the_one_before_looks():
    async def test():
        kit = Kit()
        first, second = await kit.add(*BYTES[:2])
        await kit.promote(first)
        await kit.promote(second)
        kit.models.data[second] = BYTES[1][:-1] + bytes([BYTES[1][-1] ^ 1])
        with capture_logs() as logs:
            assert await kit.looks() == first
            assert await kit.looks() == first
        assert [log["event"] for log in logs if log["log_level"] == "error"] == ["models refused"]
        assert kit.later.refused == {second: "its hash is another one"}
        kit.models.data[second] = BYTES[1]
        assert await kit.looks() == second
        assert kit.later.refused == {}

    run(test)


def test_what_the_registry_has_lost_is_refused():
    async def test():
        kit = Kit()
        [first] = await kit.add(BYTES[0])
        await kit.promote(first)
        del kit.models.data[first]
        with pytest.raises(NoModel):
            await kit.looks()
        assert kit.later.refused == {first: "the registry does not have it"}

    run(test)


def test_a_model_that_decides_does_not_look_again_and_the_other_way_round():
    async def test():
        kit = Kit()
        await kit.add(dump(an_artifact()))
        with pytest.raises(NoModel):
            await kit.looks()
        for wrong in (a_later_artifact(1.0, stage=Stage.S2), a_later_artifact(1.0, schema_id=SCHEMA_ID)):
            with pytest.raises(SchemaMismatch):
                await kit.add(dump(wrong))

    run(test)
