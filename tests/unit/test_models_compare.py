"""Which models are compared where none is named."""

import asyncio

import pytest
from damagekit import damage
from registrykit import NOW, asked, saying

from domain.placement_events import Role
from domain.placing import PlaceModel
from ledger.memory import MemoryStore
from ml.registry.memory import MemoryModels
from ml.registry.placing import STREAM, ModelPlacements
from ml.registry.registry import add_model
from service.models_compare import NothingToCompare, named_or_in_force


async def placed(*roles):
    """Return a ledger with a model in each of *roles*, and the models."""
    ledger, models = MemoryStore(), MemoryModels()
    placing = ModelPlacements(ledger, models, lambda: NOW)
    names = []
    for margin, role in enumerate(roles, 1):
        entry, _ = await add_model(models, saying(float(margin)), by="key", at=NOW)
        await placing.handle(PlaceModel(**asked(), model=entry.model, role=role))
        names.append(entry.model)
    return ledger, names


def test_what_is_not_named_is_what_is_in_force():
    async def main():
        ledger, [champion, challenger] = await placed(Role.CHAMPION, Role.CHALLENGER)
        assert await named_or_in_force(ledger, "", "") == (champion, challenger)
        assert await named_or_in_force(ledger, "", "other") == (champion, "other")

    asyncio.run(main())


def test_without_a_rival_one_must_be_named():
    async def main():
        ledger, _ = await placed(Role.CHAMPION)
        with pytest.raises(NothingToCompare, match="no canary or challenger is in force"):
            await named_or_in_force(ledger, "", "")

    asyncio.run(main())


def test_placements_that_cannot_be_read_are_told_in_a_sentence_and_hinder_nobody_who_names_both():
    async def main():
        ledger, _ = await placed(Role.CHAMPION, Role.CHALLENGER)
        damage(ledger, STREAM)
        with pytest.raises(NothingToCompare, match=r"cannot be read .*; name two models"):
            await named_or_in_force(ledger, "", "other")
        assert await named_or_in_force(ledger, "one", "other") == ("one", "other")

    asyncio.run(main())
