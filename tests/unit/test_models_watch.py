"""A gate follows placements: loads, refuses what is damaged, swaps between two batches, and takes back by itself."""

import asyncio

import pytest
from damagekit import mend
from lookkit import a_later_artifact
from msgspec.structs import replace
from registrykit import NOW, asked, saying
from structlog.testing import capture_logs

from domain.placement_events import ModelPlaced, ModelRef, Role, Stage
from domain.placing import PlaceModel, RetireModel, RollBack
from ledger.memory import MemoryStore
from ledger.store import Append, LedgerUnavailable
from ml.models.artifact import dump
from ml.registry.memory import MemoryModels
from ml.registry.placing import STREAM, ModelPlacements
from ml.registry.registry import add_model
from service.models_watch import RETRY_S, ModelsWatch
from service.scoring import ModelHolder

FIRST, SECOND, THIRD = (saying(margin) for margin in (1.0, 2.0, 3.0))


class Away(MemoryModels):
    """A registry that answers or not."""

    is_away = False
    reads = 0

    async def read(self, model):
        if self.is_away:
            raise LedgerUnavailable("away")
        self.reads += 1
        return await super().read(model)


class Kit:
    def __init__(self):
        self.ledger, self.models, self.holder = MemoryStore(), Away(), ModelHolder()
        self.now = 0.0
        self.watch = ModelsWatch(self.ledger, self.models, self.holder, lambda: self.now)
        self.placing = ModelPlacements(self.ledger, self.models, lambda: NOW)

    async def add(self, *datas):
        return [(await add_model(self.models, data, by="key", at=NOW))[0].model for data in datas]

    async def place(self, model, role=Role.CHAMPION, share=0.0):
        await self.placing.handle(PlaceModel(**asked(), model=model, role=role, share=share))
        await self.watch.poll()

    async def look_again(self):
        self.now += RETRY_S
        await self.watch.poll()

    @property
    def line(self):
        """Ids of champion, previous, challenger and canary."""
        line = self.holder.line
        canary = None if line.canary is None else line.canary[0]
        return tuple(None if one is None else one.id for one in (line.champion, line.previous, line.challenger, canary))


def run(test):
    asyncio.run(test(Kit()))


def test_what_is_promoted_decides_and_the_one_before_stands_by():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        assert kit.line == (first, None, None, None)
        await kit.place(second)
        assert kit.line == (second, first, None, None)
        await kit.placing.handle(RollBack(**asked(), seen=second))
        await kit.watch.poll()
        assert kit.line == (first, None, None, None)

    run(test)


def test_rivals_come_and_go_beside_the_champion():
    async def test(kit):
        first, second, third = await kit.add(FIRST, SECOND, THIRD)
        await kit.place(first)
        await kit.place(second, Role.CHALLENGER)
        await kit.place(third, Role.CANARY, 0.05)
        assert kit.line == (first, None, second, third)
        assert kit.holder.line.canary[1] == 0.05
        await kit.place(third, Role.CANARY, 0.2)
        assert kit.holder.line.canary[1] == 0.2
        for model in (second, third):
            await kit.placing.handle(RetireModel(**asked(), model=model))
        await kit.watch.poll()
        assert kit.line == (first, None, None, None)

    run(test)


def test_placements_that_cannot_be_read_leave_what_is_in_force_and_a_gate_that_starts_decides_by_rules():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        await kit.placing.handle(PlaceModel(**asked(), model=second, role=Role.CHAMPION))
        mend(kit.ledger, replace((await kit.ledger.read_streams([STREAM], 10))[STREAM][1], data=b"{"))
        started = ModelsWatch(kit.ledger, kit.models, ModelHolder())
        with capture_logs() as logs:
            for watch in (kit.watch, started, kit.watch, started):
                await watch.poll()
        assert kit.line == (first, None, None, None)
        assert started.is_followed
        assert started.placements.version == 0
        assert [line["event"] for line in logs] == ["placements cannot be read"] * 2

    run(test)


def test_nothing_is_loaded_again_while_nothing_changes():
    async def test(kit):
        await kit.place(*await kit.add(FIRST))
        line = kit.holder.line
        for _ in range(5):
            await kit.look_again()
        assert kit.holder.line is line
        assert (kit.models.reads, kit.watch.swaps) == (1, 1)

    run(test)


def test_a_roll_back_needs_no_loading():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        await kit.place(second)
        await kit.placing.handle(RollBack(**asked(), seen=second))
        await kit.watch.poll()
        assert kit.models.reads == 2

    run(test)


@pytest.mark.parametrize(
    "damaged",
    [lambda data: data[:-1], lambda data: bytes([*data[:200], data[200] ^ 1, *data[201:]]), lambda _: FIRST],
    ids=["cut short", "one bit", "another model"],
)
def test_a_damaged_champion_is_refused_and_the_one_before_advises(damaged):
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        kit.models.data[second] = damaged(kit.models.data[second])
        with capture_logs() as logs:
            await kit.place(second)
        assert kit.line == (None, first, None, None)
        assert kit.holder.is_missing
        assert list(kit.watch.refused) == [second]
        assert [entry["model"] for entry in logs if entry["event"] == "model refused"] == [second]

    run(test)


def test_without_any_usable_model_rules_alone_decide():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        kit.models.data[first] = kit.models.data[second] = b"damaged"
        await kit.place(first)
        await kit.place(second)
        assert kit.line == (None,) * 4
        assert set(kit.watch.refused) == {first, second}

    run(test)


def test_a_champion_that_was_put_right_decides_again():
    async def test(kit):
        [first] = await kit.add(FIRST)
        right = kit.models.data.pop(first)
        await kit.place(first)
        assert kit.watch.refused == {first: "the registry does not have it"}
        with capture_logs() as logs:
            await kit.look_again()
        assert logs == []
        kit.models.data[first] = right
        await kit.watch.poll()
        assert kit.line[0] is None
        await kit.look_again()
        assert (kit.line[0], kit.watch.refused) == (first, {})

    run(test)


def test_a_damaged_rival_is_refused_and_the_champion_goes_on():
    async def test(kit):
        first, second, third = await kit.add(FIRST, SECOND, THIRD)
        kit.models.data[second] = kit.models.data[third] = b"damaged"
        await kit.place(first)
        await kit.place(second, Role.CHALLENGER)
        await kit.place(third, Role.CANARY, 0.1)
        assert kit.line == (first, None, None, None)
        assert set(kit.watch.refused) == {second, third}

    run(test)


def test_a_model_for_other_features_is_refused_though_the_ledger_has_it_in_force():
    async def test(kit):
        [first] = await kit.add(FIRST)
        ref = ModelRef(first, (await kit.models.find(first)).sha256, "features-of-last-year")
        event = ModelPlaced(**asked(), stage=Stage.S2, role=Role.CHAMPION, model=ref)
        append = Append(stream=STREAM, expected=0, cause=event.cause, digest=event.digest, events=(event,))
        await kit.ledger.append([append], NOW)
        await kit.watch.poll()
        assert kit.line == (None,) * 4
        assert "features-of-last-year" in kit.watch.refused[first]

    run(test)


def test_while_the_registry_is_away_what_is_in_force_stays_and_is_followed_afterwards():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        kit.models.is_away = True
        with pytest.raises(LedgerUnavailable):
            await kit.place(second)
        assert kit.line[0] == first
        with pytest.raises(LedgerUnavailable):
            await kit.watch.poll()
        assert kit.watch.is_followed
        kit.models.is_away = False
        await kit.watch.poll()
        assert kit.line == (second, first, None, None)

    run(test)


def test_a_roll_back_takes_effect_while_the_registry_is_away():
    """The champion to go back to is in memory; the one before it, which would stand by, is not."""

    async def test(kit):
        first, second, third = await kit.add(FIRST, SECOND, THIRD)
        for model in (first, second, third):
            await kit.place(model)
        kit.models.is_away = True
        await kit.placing.handle(RollBack(**asked(), seen=third))
        with pytest.raises(LedgerUnavailable):
            await kit.watch.poll()
        assert kit.line == (second, None, None, None)
        kit.models.is_away = False
        await kit.watch.poll()
        assert kit.line == (second, first, None, None)

    run(test)


def test_a_gate_has_what_is_in_force_before_it_is_ready():
    async def test(kit):
        [first] = await kit.add(FIRST)
        kit.models.is_away = True
        with pytest.raises(LedgerUnavailable):
            await kit.place(first)
        assert not kit.watch.is_followed
        kit.models.is_away = False
        await kit.watch.poll()
        assert kit.watch.is_followed
        assert kit.line[0] == first

    run(test)


def test_a_canary_is_gone_at_once_and_stays_so_until_it_is_placed_anew():
    async def test(kit):
        first, second, third = await kit.add(FIRST, SECOND, THIRD)
        await kit.place(first)
        await kit.place(second, Role.CANARY, 0.1)
        kit.watch.end_canary()
        assert kit.line == (first, None, None, None)
        await kit.place(third, Role.CHALLENGER)
        assert kit.line == (first, None, third, None)
        await kit.placing.handle(RetireModel(**asked(), model=second, only_as=Role.CANARY))
        await kit.placing.handle(PlaceModel(**asked(at=NOW + 1), model=second, role=Role.CANARY, share=0.1))
        await kit.watch.poll()
        assert kit.line[3] == second

    run(test)


def test_the_end_of_a_canary_is_none_of_the_one_that_was_placed_instead_of_it():
    async def test(kit):
        first, second, third = await kit.add(FIRST, SECOND, THIRD)
        await kit.place(first)
        await kit.place(second, Role.CANARY, 0.1)
        kit.models.is_away = True
        with pytest.raises(LedgerUnavailable):
            await kit.place(third, Role.CANARY, 0.1)
        kit.watch.end_canary()
        assert kit.line == (first, None, None, None)
        kit.models.is_away = False
        await kit.watch.poll()
        assert kit.line == (first, None, None, third)

    run(test)


def test_without_a_champion_by_decision_nothing_advises():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.place(first)
        await kit.place(second)
        await kit.placing.handle(RetireModel(**asked(), model=second))
        await kit.watch.poll()
        assert kit.line == (None,) * 4

    run(test)


def test_two_looks_at_once_do_what_one_does():
    async def test(kit):
        first, second = await kit.add(FIRST, SECOND)
        await kit.placing.handle(PlaceModel(**asked(), model=first, role=Role.CHAMPION))
        await kit.placing.handle(PlaceModel(**asked(), model=second, role=Role.CHAMPION))
        await asyncio.gather(kit.watch.poll(), kit.watch.poll())
        assert (kit.line, kit.watch.placements.version) == ((second, first, None, None), 2)
        assert (kit.watch.swaps, kit.models.reads) == (2, 2)  # the champion, and then who stands by

    run(test)


def test_models_of_the_other_stage_are_nobodys_business_here():
    async def test(kit):
        [late] = await kit.add(dump(a_later_artifact()))
        await kit.place(late)
        assert kit.watch.placements.of(Stage.S3).champion.model == late
        assert (kit.line, kit.watch.refused) == ((None,) * 4, {})

    run(test)
