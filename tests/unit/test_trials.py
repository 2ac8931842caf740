"""Two models are tried on labels that had matured, on impressions that neither was trained on."""

import asyncio
import random

import pytest
from builders import DAY, HOUR, MINTED, PACK, PRICE, a_label, a_render, a_token, admit, cause
from damagekit import mend
from modelkit import FACTS, rows
from msgspec.structs import replace
from registrykit import a_model, saying, scorer_of

from domain.decide import decide
from domain.ids import day_of, mint
from domain.impression import fold
from domain.reasons import Reason
from domain.signals import Family, Signal
from domain.vocabulary import DataSet, Label, LabelSource
from ledger.memory import MemoryStore
from ledger.store import Append, read_everything
from ml.features.logged import pack
from ml.features.schema import SCHEMA_ID
from ml.registry.experiments import Finding
from ml.registry.trials import Terms, terms_for, try_models

MATURE_MS = 72 * HOUR
LENIENT = scorer_of(saying(-4.0))
STRICT = scorer_of(a_model(threshold=1.0, left=4.0, right=-4.0))
"""Finds what has an area of at most one pixel, and nothing else."""
INVALID, HUMAN = {"area_px": 0.0}, {"area_px": 9.0}


class World:
    """A ledger of scored impressions; `decided` and `labelled` append, `trial` tries the strict model on it."""

    def __init__(self, seed=1):
        self.store = MemoryStore()
        self.random = random.Random(seed)
        self.first_of = {}

    async def decided(self, said, *, device=None, also=(), at=MINTED, **scored):
        impression = mint(at, 7, self.random.getrandbits(62))
        await self.store.prepare_days(day_of(at), day_of(at), DataSet.LIVE)
        device = f"device-{self.random.getrandbits(40)}" if device is None else device
        token = a_token(impression=impression)
        command = admit(
            also=also,
            render=a_render(on_screen_at=at),
            token=token,
            received_at=at + 1_000,
            person=("", device, "", ""),
        )
        [(packed, status)] = pack(rows(1, **said))
        versions = replace(command.scored.versions, features=SCHEMA_ID)
        thought = {"features": packed, "feature_status": status, "versions": versions, **scored}
        thought = replace(command.scored, **thought)
        await self._append(impression, decide(fold([]), replace(command, scored=thought)))
        return impression

    async def labelled(self, impression, label=Label.INVALID, **changes):
        state = fold(self.first_of[impression])
        fields = {"source": LabelSource.HUMAN_REVIEW, "weight": 0.9, "id_": cause(), **changes}
        await self._append(impression, decide(state, a_label(label=label, **fields)))

    async def _append(self, impression, events):
        before = self.first_of.setdefault(impression, ())
        first = events[0]
        append = Append(
            stream=impression, expected=len(before), cause=first.cause, digest=first.digest, events=tuple(events)
        )
        await self.store.append([append], MINTED)
        self.first_of[impression] += tuple(events)

    async def trial(self, **terms):
        fields = {"after": 0, "since": 0, "now": MINTED + 30 * DAY, "mature_ms": MATURE_MS, "accuses": PACK.accuses}
        terms = Terms(**{**fields, **terms})
        return await try_models(self.store, read_everything(self.store, terms.after), LENIENT, STRICT, terms)

    async def labels_that_count(self, **terms):
        return (await self.trial(**terms)).agreement.labels


def test_the_model_that_the_labels_agree_with_is_better():
    async def test(world):
        for number in range(120):
            is_bot = number % 2 == 0
            impression = await world.decided(INVALID if is_bot else HUMAN, at=MINTED + number)
            await world.labelled(impression, Label.INVALID if is_bot else Label.HUMAN)
        result = await world.trial()
        assert (result.finding, result.agreement.labels) == (Finding.BETTER, 120)
        assert result.agreement.mean == pytest.approx(0.45)
        assert result.money_micros["EUR"].mean == pytest.approx(PRICE * 0.45)

    asyncio.run(test(World()))


def test_only_labels_that_had_come_when_the_impression_was_mature_count():
    async def test(world):
        impression = await world.decided(INVALID)
        await world.labelled(impression, at=MINTED + 1_000 + MATURE_MS + DAY)
        assert await world.labels_that_count() == 0
        await world.labelled(impression, at=MINTED + MATURE_MS)
        assert await world.labels_that_count() == 1
        assert await world.labels_that_count(now=MINTED + MATURE_MS) == 0

    asyncio.run(test(World()))


def test_the_label_with_the_most_weight_has_the_word():
    async def test(world):
        impression = await world.decided(INVALID)
        await world.labelled(impression, Label.HUMAN, source=LabelSource.HUMAN_SIGNAL, weight=0.7)
        await world.labelled(impression, Label.INVALID, source=LabelSource.HONEYPOT, weight=1.0)
        result = await world.trial()
        assert (result.agreement.labels, result.agreement.mean) == (1, 1.0)

    asyncio.run(test(World()))


def test_one_device_has_one_voice_however_many_of_its_renders_are_labelled():
    async def test(world):
        for number in range(5):
            await world.labelled(await world.decided(INVALID, device="farm-1", at=MINTED + number))
        await world.labelled(await world.decided(INVALID))
        assert await world.labels_that_count() == 2

    asyncio.run(test(World()))


def test_what_a_model_may_have_been_trained_on_is_left_out():
    async def test(world):
        early = await world.decided(INVALID)
        await world.labelled(early)
        late = await world.decided(INVALID, at=MINTED + DAY)
        await world.labelled(late, at=MINTED + DAY)
        assert await world.labels_that_count() == 2
        assert await world.labels_that_count(after=2) == 1
        assert await world.labels_that_count(since=MINTED + DAY) == 1
        assert await world.labels_that_count(after=3) == 0

    asyncio.run(test(World()))


@pytest.mark.parametrize("place", [0, 1], ids=["the decision", "the label"])
def test_what_cannot_be_read_is_left_out_and_harms_no_other(place):
    async def test(world):
        damaged, whole = await world.decided(INVALID), await world.decided(INVALID)
        for impression in (damaged, whole):
            await world.labelled(impression)
        mend(world.store, replace((await world.store.read_streams([damaged], 10))[damaged][place], data=b"{"))
        assert await world.labels_that_count() == 1

    asyncio.run(test(World()))


def test_terms_are_those_of_the_model_that_knows_the_most():
    cards = [
        replace(FACTS, ledger_range=(0, 70), trained_until=5),
        replace(FACTS, ledger_range=(9, 20), trained_until=8),
    ]
    terms = terms_for([scorer_of(saying(1.0, card=card)) for card in cards], now=100, accuses=["stacked"], mature_h=2)
    assert terms == Terms(after=70, since=8, now=100, accuses=["stacked"], mature_ms=2 * HOUR)


def test_labels_that_are_not_for_such_a_model_do_not_count():
    async def test(world):
        impression = await world.decided(INVALID)
        await world.labelled(impression, source=LabelSource.DECLARED_BOT)
        await world.labelled(impression, source=LabelSource.SDK_BUG)
        await world.labelled(impression, Label.VIEWABLE, source=LabelSource.VIEW, weight=0.0)
        assert await world.labels_that_count() == 0

    asyncio.run(test(World()))


def test_what_was_scored_by_other_features_or_not_at_all_is_left_out():
    async def test(world):
        await world.labelled(await world.decided(INVALID, features=b"", feature_status=""))
        impression = await world.decided(INVALID)
        first = world.first_of[impression]
        await world.labelled(impression)
        assert first[1].versions.features == SCHEMA_ID
        assert await world.labels_that_count() == 1

    asyncio.run(test(World()))


def test_where_the_screen_speaks_against_it_no_money_hangs_on_the_model():
    async def test(world):
        impression = await world.decided(INVALID, also=(Reason.AREA_INVISIBLE,))
        await world.labelled(impression)
        result = await world.trial()
        assert (result.agreement.labels, result.money_micros) == (1, {})

    asyncio.run(test(World()))


@pytest.mark.parametrize(("signal", "is_charged"), [("stacked", False), ("inconsistent", True)])
def test_where_a_signal_accuses_no_money_hangs_on_the_model(signal, is_charged):
    """It is undecided by that alone, as it would be for the model's sake."""
    spoken = {"reasons": (Reason.RISK_GREY,), "signals": (Signal(Family.GEOMETRY, signal, 9, 4),), "pair": (signal,)}

    async def test(world):
        await world.labelled(await world.decided(INVALID, **spoken))
        result = await world.trial()
        assert (result.agreement.labels, bool(result.money_micros)) == (1, is_charged)

    asyncio.run(test(World()))


def test_trying_again_later_goes_on_where_it_ended():
    """The same cases in the same order, and new ones behind them: else looking again and again would not be allowed."""

    async def test(world):
        for number in range(40):
            impression = await world.decided(INVALID, at=MINTED + number * HOUR)
            await world.labelled(impression, at=MINTED + number * HOUR + HOUR)
        early = await world.trial(now=MINTED + 20 * HOUR + 1_000 + MATURE_MS)
        alone = World()
        for number in range(21):
            impression = await alone.decided(INVALID, at=MINTED + number * HOUR)
            await alone.labelled(impression, at=MINTED + number * HOUR + HOUR)
        assert early == await alone.trial()
        assert 0 < early.agreement.labels < (await world.trial()).agreement.labels == 40

    asyncio.run(test(World()))
