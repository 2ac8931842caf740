"""The registry keeps models, placements and comparisons alike in memory and on PostgreSQL."""

import asyncio
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from lookkit import a_later_artifact
from msgspec.structs import replace
from registrykit import NOW, a_model, asked, saying

from domain.placement_events import Role, Stage
from domain.placing import PlacementRefusal, PlacementRefused, PlaceModel, RollBack
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ml.models.artifact import CorruptArtifact, dump, load
from ml.registry import registry
from ml.registry.memory import MemoryComparisonTable, MemoryModels, MemoryPlacementTable
from ml.registry.placing import ModelPlacements, PlacementList, read_placements
from ml.registry.postgres import PostgresComparisonTable, PostgresModels, PostgresPlacementTable
from ml.registry.registry import Compared, ComparedKey, ModelStore, NoSuchModel, PlacementRow, add_model, entry_of

HOUR = 3_600_000


class Kit(NamedTuple):
    ledger: object
    models: ModelStore
    placements: object
    comparisons: object

    @property
    def placing(self):
        return ModelPlacements(self.ledger, self.models, lambda: NOW)

    async def add(self, data, at=NOW):
        entry, _ = await add_model(self.models, data, by="key", at=at)
        return entry.model

    async def place(self, model, role=Role.CHAMPION, share=0.0):
        return await self.placing.handle(PlaceModel(**asked(), model=model, role=role, share=share))


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.slow)])
def run(request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None

    @asynccontextmanager
    async def kit():
        if url is None:
            yield Kit(MemoryStore(), MemoryModels(), MemoryPlacementTable(), MemoryComparisonTable())
            return
        store, connection = PostgresStore(url), PostgresConnection(url, 5.0)
        tables = [kind(connection) for kind in (PostgresModels, PostgresPlacementTable, PostgresComparisonTable)]
        try:
            yield Kit(store, *tables)
        finally:
            await store.close()
            await connection.close()

    def on(test):
        async def main():
            async with kit() as one:
                await test(one)

        asyncio.run(main())

    return on


def test_a_model_is_read_as_it_was_added_with_its_card_and_schema(run):
    async def test(kit):
        data = a_model()
        model = await kit.add(data)
        entry = await kit.models.find(model)
        assert entry == entry_of(data, by="key", at=NOW)
        assert (entry.size, entry.card["snapshot"], entry.card["ledger_range"]) == (len(data), "none", [0, 0])
        assert load(await kit.models.read(model), entry.sha256).schema_id == entry.features

    run(test)


def test_the_same_bytes_are_kept_once_and_stay_whose_they_were(run):
    async def test(kit):
        first, is_new = await add_model(kit.models, a_model(), by="key", at=NOW)
        again, is_new_again = await add_model(kit.models, a_model(), by="another", at=NOW + 1)
        assert (first, is_new, is_new_again) == (again, True, False)

    run(test)


def test_what_is_no_model_is_not_kept(run):
    async def test(kit):
        for data in (b"", b"\x80\x04\x95pickle", a_model()[:-1]):
            with pytest.raises(CorruptArtifact):
                await add_model(kit.models, data, by="key", at=NOW)
        assert await kit.models.page("", 10) == []

    run(test)


def test_what_is_not_here_is_said_to_be_so(run):
    async def test(kit):
        assert await kit.models.find("s2-nothing") is None
        with pytest.raises(NoSuchModel):
            await kit.models.read("s2-nothing")

    run(test)


def test_models_are_listed_page_by_page_the_latest_first(run):
    async def test(kit):
        made = [await kit.add(saying(margin), at=NOW + margin) for margin in (1, 2, 3)]
        third = await kit.add(dump(a_later_artifact()), at=NOW + 4)
        listed = [entry.model for entry in await kit.models.page("", 10)]
        assert listed == [third, *reversed(made)]
        assert [entry.model for entry in await kit.models.page(listed[1], 1)] == listed[2:3]
        assert [entry.model for entry in await kit.models.page("", 10, Stage.S2)] == listed[1:]
        assert await kit.models.page("s2-nothing", 10) == []
        for limit in (0, registry.PAGE_MAX + 1):
            with pytest.raises(ValueError, match="limit"):
                await kit.models.page("", limit)

    run(test)


def test_placements_are_in_the_ledger_and_the_table_follows_them(run):
    async def test(kit):
        first, second = [await kit.add(saying(margin)) for margin in (1, 2)]
        listed = PlacementList(kit.ledger, kit.placements)
        assert await listed.follow() == 0
        await kit.place(first)
        assert await listed.follow() == 1
        await kit.place(second, Role.CANARY, 0.25)
        await kit.placing.handle(RollBack(**asked(reason="enough"), seen=second))
        assert await listed.follow() == await kit.placements.through() == 3
        rows = await kit.placements.page(10, 2)
        assert [(row.version, row.placed.role, row.placed.reason) for row in rows] == [
            (2, Role.NONE, "enough"),
            (1, Role.CANARY, "a test"),
        ]
        assert [row.version for row in await kit.placements.page(1, 10)] == [0]

    run(test)


def test_a_reason_that_no_database_takes_does_not_stop_the_table(run):
    async def test(kit):
        placed = await kit.add(saying(1))
        await kit.place(placed)
        [event] = await read_placements(kit.ledger)
        await kit.placements.put([PlacementRow(0, replace(event, reason="a\0b")), PlacementRow(1, event)])
        assert await kit.placements.through() == 2

    run(test)


def test_the_table_of_placements_can_be_made_anew_from_the_ledger_alone(run):
    async def test(kit):
        models = [await kit.add(saying(margin)) for margin in (1, 2)]
        for model in models * 2:
            await kit.place(model)
        listed = PlacementList(kit.ledger, kit.placements)
        await listed.follow()
        before = await kit.placements.page(100, 100)
        await kit.placements.clear()
        assert await kit.placements.page(100, 100) == []
        assert await listed.rebuild() == 4
        assert await kit.placements.page(100, 100) == before
        assert [row.placed.model.model for row in reversed(before)] == models * 2

    run(test)


def test_a_placement_is_checked_against_the_registry_and_done_once(run):
    async def test(kit):
        model = await kit.add(a_model())
        with pytest.raises(PlacementRefused) as caught:
            await kit.place("s2-nothing")
        assert caught.value.refusal is PlacementRefusal.UNKNOWN_MODEL
        old = replace(await kit.models.find(model), model="s2-old", sha256="0" * 64, features="features-old")
        await kit.models.add(old, b"of last year")
        with pytest.raises(PlacementRefused) as caught:
            await kit.place("s2-old")
        assert caught.value.refusal is PlacementRefusal.SCHEMA_MISMATCH
        command = PlaceModel(**asked(), model=model, role=Role.CHAMPION)
        first, again = [await kit.placing.handle(command) for _ in range(2)]
        assert (first.placed.model.model, again.placed) == (model, None)
        assert first.placements.of(Stage.S2).champion == again.placements.of(Stage.S2).champion
        assert len(await kit.ledger.read_all(0, 10)) == 1

    run(test)


def test_of_two_who_place_at_once_both_are_recorded_one_after_the_other(run):
    async def test(kit):
        models = [await kit.add(saying(margin)) for margin in (1, 2)]
        await asyncio.gather(*[kit.place(model) for model in models])
        state = await kit.placing.read()
        assert {ref.model for ref in state.of(Stage.S2).champions} == set(models)

    run(test)


def a_comparison(hour=0, gate="eu-1", currency="EUR", **changes):
    key = ComparedKey(hour=hour, gate=gate, role=Role.CHALLENGER, champion="s2-a", other="s2-b", currency=currency)
    fields = {"rows": 10, "agreed": 8, "stricter": 2, "difference_sum": 0.5, "difference_max": 0.25}
    return Compared(key=key, **{**fields, **changes})


def test_comparisons_of_all_gates_are_summed_by_hour_and_currency(run):
    async def test(kit):
        await kit.comparisons.put([a_comparison(), a_comparison(hour=HOUR), a_comparison(gate="eu-2", rows=5)])
        await kit.comparisons.put([a_comparison(rows=20, money_micros=-700), a_comparison(currency="USD")])
        rows = await kit.comparisons.since(0, 10)
        assert [(row.key.hour, row.key.currency, row.rows) for row in rows] == [
            (HOUR, "EUR", 10),
            (0, "EUR", 25),
            (0, "USD", 10),
        ]
        assert rows[1] == replace(
            a_comparison(gate=""), rows=25, agreed=16, stricter=4, difference_sum=1.0, money_micros=-700
        )
        assert await kit.comparisons.since(HOUR, 10) == rows[:1]

    run(test)


def test_old_comparisons_are_forgotten(run):
    async def test(kit):
        await kit.comparisons.put([a_comparison(hour=hour * HOUR) for hour in range(4)])
        assert await kit.comparisons.drop_before(2 * HOUR) == 2
        assert [row.key.hour for row in await kit.comparisons.since(0, 10)] == [3 * HOUR, 2 * HOUR]

    run(test)


def test_a_model_that_is_too_large_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(registry, "MODEL_BYTES_MAX", 100)
    with pytest.raises(CorruptArtifact, match="at most 100 bytes"):
        entry_of(a_model(), by="key", at=NOW)
