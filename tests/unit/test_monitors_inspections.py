"""Inspections read the ledger, compare with the training out of the registry, and raise alarms that everybody sees."""

import asyncio
from bisect import bisect_right
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from builders import HOUR, MINTED
from damagekit import damage
from learnkit import SOURCES, a_world
from modelkit import an_artifact
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from domain.events import ImpressionScored
from domain.reasons import Reason
from domain.vocabulary import DataSet, LabelSource, Rung
from ledger.codec import decode
from ledger.memory import MemoryStore
from ledger.store import Append, Appended, LedgerUnavailable
from ml.features.logged import pack
from ml.features.matrix import Vectors
from ml.features.replayed import Replay
from ml.features.schema import PLACE, SCHEMA, SCHEMA_ID
from ml.labels.arrival import ArrivalCurve
from ml.models.artifact import dump, model_id
from ml.monitors.checks import DECISION_CHECKS, Check, Measured
from ml.monitors.kept import KeptReferences
from ml.monitors.reference import CorruptReference, LabelCurve, reference_of
from ml.monitors.reference import dump as dump_reference
from ml.monitors.sampling import decisions_of, rows_of_decisions, tail
from ml.registry.memory import MemoryModels
from ml.registry.registry import add_model
from projections.queries import KnownThrough
from service.monitoring import Later, Seen, Watch
from service.monitors_http import told
from service.monitors_model import DecisionInspection, LabelInspection, Sources

pytestmark = pytest.mark.slow

SHARE = 0.08
MODEL = "s2-trained"


class World:
    """Two weeks of decisions of one model and their labels, in a ledger in memory."""

    def __init__(self, seed=1, n=3_000, *, model=MODEL, vectors=lambda one: one, world=None, **changes):
        self.made = a_world(n, seed, share=SHARE, days=14) if world is None else world
        self.model, self.vectors, self.changes = model, vectors, changes
        self.now = self.made.cutoff
        self.store = MemoryStore()
        self.recorded = []

    async def open(self):
        first = datetime.fromtimestamp(MINTED / 1_000, UTC).date()
        await self.store.prepare_days(first - timedelta(days=1), first + timedelta(days=30), DataSet.LIVE)
        chance, versions, logged = np.random.default_rng(3), {}, self.logged()
        for commit in self.made.commits:
            events = tuple(
                self.scored(event, logged[commit.stream], chance, self.made.truth[str(commit.stream)])
                if isinstance(event, ImpressionScored)
                else event
                for event in decode(commit.data)
            )
            append = Append(
                stream=commit.stream,
                expected=versions.get(commit.stream, 0),
                cause=commit.cause,
                digest=commit.digest,
                events=events,
            )
            [outcome] = await self.store.append([append], commit.recorded_at)
            assert outcome == Appended()
            versions[commit.stream] = append.expected + len(events)
            self.recorded.append(commit.recorded_at)
        return self

    def logged(self):
        """The features of every decision, as a replay makes them."""
        found = {}
        for part in Replay().take(self.made.commits):
            values = np.array([self.vectors(row.copy()) for row in part.vectors.values])
            packed = pack(Vectors(values.astype(np.float32).astype(np.float64), part.vectors.status))
            found |= zip([row.impression for row in part.rows], packed, strict=True)
        return found

    def scored(self, event, logged, chance, invalid):
        """A calibrated model that finds four in five, and doubts as many people as it finds bots."""
        suspects = 0.8 * SHARE
        is_suspect = chance.random() < (0.8 if invalid else suspects / (1 - SHARE))
        risk = 0.5 if is_suspect else 0.2 * SHARE / (1 - 2 * suspects)
        packed, letters = logged
        return replace(
            event,
            versions=replace(event.versions, model=self.model, features=SCHEMA_ID),
            risk=risk,
            band="risky" if is_suspect else "clear",
            rung=Rung.FULL,
            features=packed,
            feature_status=letters,
            **self.changes,
        )

    async def position_at(self, at):
        return bisect_right(self.recorded, at)

    def sources(self, references):
        return Sources(self.store, self.position_at, references, lambda: self.now)


class Known:
    """References by model."""

    def __init__(self, **references):
        self.references = {name.replace("_", "-"): reference for name, reference in references.items()}

    async def reference(self, model):
        return self.references.get(model)


@pytest.fixture(scope="module")
def reference():
    async def make():
        world = await World(seed=11).open()
        rows = rows_of_decisions(decisions_of(await world.store.read_all(0, 10_000)))
        return reference_of(rows, [feature.name for feature in SCHEMA], SCHEMA_ID, curves())

    return asyncio.run(make())


def curves():
    """What labels of `learnkit` look like, as a training would have measured it."""
    return tuple(
        LabelCurve(source=source, rate=share * SHARE, caught=share, delays=ArrivalCurve(float(delay), 1.0))
        for source, (share, _, delay) in SOURCES.items()
        if source is not LabelSource.HUMAN_SIGNAL
    )


def watched(world, references, times=2):
    """Let both inspections look so often; return the watch and the lines of the log."""

    async def run():
        await world.open()
        sources = world.sources(references)
        inspections = [
            DecisionInspection(sources, every_s=60, window_s=3_600, sample=10_000),
            LabelInspection(sources, every_s=600),
        ]
        watch = Watch(inspections, registry, lambda: world.now)
        for _ in range(times):
            await watch.look()
        return watch

    registry = CollectorRegistry()
    with capture_logs() as logs:
        watch = asyncio.run(run())
    return watch, [line for line in logs if line["event"].startswith("alarm")], generate_latest(registry).decode()


def alarms(watch):
    return {(one.finding.check, one.finding.surface, one.finding.subject) for one in watch.alarms}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_ledger_like_the_training_raises_no_alarm(reference, seed):
    watch, logs, _ = watched(World(seed), Known(s2_trained=reference))
    assert (alarms(watch), logs) == (set(), [])
    decisions, labels = watch.looks
    assert decisions.says == "0 new decisions, against the training of s2-trained"
    assert len([one for one in decisions.findings if one.p_value is not None]) > len(SCHEMA)
    assert labels.says.endswith("decisions of the last 14 days and their labels")
    assert {one.check for one in labels.findings if one.p_value is not None} == {Check.CALIBRATION, Check.LABEL_ARRIVAL}


def test_commits_that_cannot_be_read_are_left_out_of_a_look(reference):
    async def run():
        world = await World().open()
        damage(world.store, (await world.store.read_all(0, 1))[0].stream)
        sources = world.sources(Known(s2_trained=reference))
        return [
            (await inspection.measure()).says
            for inspection in (
                DecisionInspection(sources, every_s=60, window_s=3_600, sample=10_000),
                LabelInspection(sources, every_s=600),
            )
        ]

    decisions, labels = asyncio.run(run())
    assert decisions == "2,999 new decisions, against the training of s2-trained"
    assert labels.endswith("decisions of the last 14 days and their labels")


def test_a_frozen_feature_in_the_ledger_is_an_alarm_that_everybody_sees(reference):
    def frozen(values):
        values[PLACE["agent_age_days"]] = 60.0
        return values

    watch, logs, metrics = watched(World(vectors=frozen), Known(s2_trained=reference))
    cell = (Check.FEATURE_SHIFT, "feed", "agent_age_days")
    assert alarms(watch) == {cell}
    assert [(line["event"], line["check"], line["subject"]) for line in logs] == [
        ("alarm started", "feature_shift", "agent_age_days")
    ]
    assert 'impledger_monitor_alarm{check="feature_shift",subject="agent_age_days",surface="feed"} 1.0' in metrics
    [alarm] = told(watch)["alarms"]
    assert alarm["subject"] == "agent_age_days"
    assert ": 100.0% of the rows, was " in alarm["says"]


def test_labels_that_stop_coming_are_an_alarm_of_their_source(reference):
    world = World(world=without_labels(LabelSource.THIRD_PARTY))
    watch, _, _ = watched(world, Known(s2_trained=reference))
    assert alarms(watch) == {(Check.LABEL_ARRIVAL, "", "third_party")}


def without_labels(source):
    made = a_world(3_000, 1, share=SHARE, days=14)
    kept = [one for one in made.commits if getattr(decode(one.data)[0], "source", None) is not source]
    return made._replace(commits=kept)


@pytest.mark.parametrize(("pair", "grey"), [(("model",), True), (("stacked",), False)])
def test_what_a_signal_alone_leaves_undecided_is_no_grey_of_the_model(pair, grey):
    async def test():
        world = await World(n=1, pair=pair).open()
        [decision] = decisions_of(await world.store.read_all(0, 1))
        undecided = decision._replace(deduped=replace(decision.deduped, reason=Reason.RISK_GREY))
        assert rows_of_decisions([undecided]).grey.tolist() == [grey]

    asyncio.run(test())


def test_what_another_model_decided_is_not_held_against_this_one(reference):
    watch, _, _ = watched(World(n=300, model="s2-other"), Known(s2_trained=reference))
    assert alarms(watch) == set()
    assert [look.says for look in watch.looks] == ["s2-other has nothing to be compared with"] * 2


def test_without_a_model_nothing_is_compared(reference):
    watch, _, _ = watched(World(n=300, model=""), Known(s2_trained=reference))
    assert [(look.says, look.findings) for look in watch.looks] == [("no model decided", [])] * 2


def test_a_reference_of_other_features_is_not_used(reference):
    watch, _, _ = watched(World(n=300), Known(s2_trained=replace(reference, schema_id="features-old")))
    assert watch.looks[0].says == "s2-trained has other features"


def test_an_empty_ledger_is_no_trouble(reference):
    made = a_world(30, 1, share=SHARE, days=14)
    watch, _, _ = watched(World(world=made._replace(commits=[])), Known(s2_trained=reference))
    assert [look.findings for look in watch.looks] == [[], []]


def test_of_more_than_the_sample_the_last_are_read_and_the_next_look_goes_on_from_there():
    async def run():
        world = await World(n=300).open()
        first = await tail(world.store, 0, 100)
        assert (len(first.commits), first.through, first.skipped) == (100, len(world.recorded), True)
        again = await tail(world.store, first.through, 100)
        assert (again.commits, again.through, again.skipped) == ([], first.through, False)
        whole = await tail(world.store, 0, 100_000)
        assert (len(whole.commits), whole.skipped) == (len(world.recorded), False)

    asyncio.run(run())


def test_a_window_forgets_what_is_older_than_it(reference):
    async def run():
        world = await World(n=2_000).open()
        inspection = DecisionInspection(
            world.sources(Known(s2_trained=reference)), every_s=60, window_s=3_600, sample=10_000
        )
        tested = [one for one in (await inspection.measure()).measured if one.p_value is not None]
        world.now += 2 * HOUR
        later = await inspection.measure()
        assert tested
        assert later.measured == []

    asyncio.run(run())


def test_decisions_of_a_look_in_which_the_registry_was_away_are_looked_at_again(reference):
    async def run():
        world = await World().open()
        references = Known(s2_trained=reference)
        inspection = DecisionInspection(world.sources(references), every_s=60, window_s=3_600, sample=10_000)
        known = references.reference

        async def away(_):
            raise LedgerUnavailable("the registry does not answer")

        references.reference = away
        with pytest.raises(LedgerUnavailable):
            await inspection.measure()
        references.reference = known
        assert (await inspection.measure()).says.startswith("3,000 new decisions")

    asyncio.run(run())


def test_a_models_reference_comes_out_of_the_registry(reference):
    async def run():
        store = MemoryModels()
        data = dump(an_artifact(reference=dump_reference(reference)))
        bare = dump(an_artifact())
        await add_model(store, data, by="test", at=1)
        await add_model(store, bare, by="test", at=2)
        kept = KeptReferences(store)
        assert await kept.reference(model_id(data)) == reference
        assert await kept.reference(model_id(bare)) is None
        assert await kept.reference("s2-unknown") is None
        store.data.clear()
        assert await kept.reference(model_id(data)) == reference

    asyncio.run(run())


def test_a_damaged_model_gives_no_reference(reference):
    async def run():
        store = MemoryModels()
        data = dump(an_artifact(reference=dump_reference(reference)))
        wrong = dump(an_artifact(reference=b"wrong"))
        for one in (data, wrong):
            await add_model(store, one, by="test", at=1)
        store.data[model_id(data)] = data[:-1] + b"x"
        for one in (data, wrong):
            with pytest.raises(CorruptReference):
                await KeptReferences(store).reference(model_id(one))

    asyncio.run(run())


class Script:
    """An inspection that does as it is told, look by look."""

    name, checks, every_s = "script", frozenset({Check.SKEW}), 60

    def __init__(self, *deeds):
        self.deeds = list(deeds)

    async def measure(self):
        deed = self.deeds.pop(0)
        if isinstance(deed, Exception):
            raise deed
        return Seen(known_through=KnownThrough(1, 1), lag_s=0.0, measured=deed)


BAD = [Measured(check=Check.SKEW, trials=1_000, value=0.5, expected=0.001, excess=0.499, p_value=1e-9)]


def test_an_inspection_without_an_answer_leaves_its_alarms_as_they_are():
    async def run():
        inspection = Script(
            BAD, BAD, LedgerUnavailable("away"), LedgerUnavailable("away"), LedgerUnavailable("away"), []
        )
        watch = Watch([inspection], CollectorRegistry(), lambda: 1)
        for _ in range(2):
            await watch.look()
        for _ in range(3):
            with pytest.raises(LedgerUnavailable):
                await watch.look()
        assert len(watch.alarms) == 1
        assert len(watch.looks[0].findings) == 1
        await watch.look()
        assert len(watch.alarms) == 1

    asyncio.run(run())


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), CorruptReference("bad"), ZeroDivisionError()])
def test_what_goes_wrong_in_one_look_does_not_end_the_watch(error):
    async def run():
        stop, looked = asyncio.Event(), asyncio.Event()

        class Stopping(Script):
            async def measure(self):
                if not self.deeds:
                    looked.set()
                    await asyncio.Event().wait()
                return await super().measure()

        inspection = Stopping(error, BAD)
        inspection.every_s = 0.001
        registry = CollectorRegistry()
        watch = Watch([inspection], registry, lambda: 1)
        running = asyncio.create_task(watch.run(stop))
        await looked.wait()
        running.cancel()
        text = generate_latest(registry).decode()
        assert 'impledger_monitor_looks_total{how="failed",inspection="script"} 1.0' in text
        assert len(watch.looks[0].findings) == 1

    with capture_logs():
        asyncio.run(run())


def test_what_an_inspection_needs_is_loaded_at_its_first_look():
    opened = []

    def make():
        opened.append(1)
        return Script([], BAD)

    async def run():
        later = Later("script", frozenset({Check.SKEW}), 60, make)
        assert opened == []
        assert (await later.measure()).measured == []
        assert (await later.measure()).measured == BAD
        assert opened == [1]

    asyncio.run(run())


def test_every_check_belongs_to_one_inspection():
    assert DecisionInspection.checks == DECISION_CHECKS
    assert not DecisionInspection.checks & LabelInspection.checks
