"""The reviewer of a worker: what came later from the store, the model from the registry, and what it says."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from commands.reevaluating import Answer, Flaw, Opinion, TooEarly
from domain.ids import ImpressionId
from domain.impression import ImpossibleTransition
from ledger.following import Seen
from ml.context.look import Surroundings
from ml.features.later import Context
from ml.features.logged import UnreadableVector
from ml.models.s3 import LaterScorer, NotDecided, reevaluate
from service.later_models import LaterModels

_AT_ONCE = 20
"""So many are scored before others get the loop."""


class SecondLook:
    """A `Reviewer`. Belongs to one event loop. `clock` gives epoch ms."""

    def __init__(self, models: LaterModels, surroundings: Surroundings, clock: Callable[[], int]) -> None:
        self._models = models
        self._surroundings = surroundings
        self._clock = clock

    async def review(self, streams: Mapping[ImpressionId, Sequence[Seen]]) -> Mapping[ImpressionId, Answer]:
        model = await self._models.current()
        contexts = await self._surroundings.of(streams, self._clock())
        answers: dict[ImpressionId, Answer] = {}
        for place, (impression, stream) in enumerate(streams.items()):
            if impression in contexts.early:
                answers[impression] = TooEarly()
            elif (context := contexts.of.get(impression)) is None:
                answers[impression] = Flaw("no render of it was decided")
            else:
                answers[impression] = _opinion(stream, context, model)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return answers


def _opinion(stream: Sequence[Seen], context: Context, model: LaterScorer) -> Answer:
    try:
        found = reevaluate([event for seen in stream for event in seen.events or ()], context, model)
    except (NotDecided, ImpossibleTransition, UnreadableVector) as error:
        return Flaw(f"{type(error).__name__}: {error}")
    return Opinion(
        model=model.id,
        known_at=context.at,
        verdict=found.verdict,
        reason=found.reason,
        risk=found.risk,
        pair=found.pair,
        masked_risk=found.masked_risk,
    )
