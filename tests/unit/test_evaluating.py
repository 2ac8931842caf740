"""A model is trained, put into gates, and measured; everything that is said of it comes out the same again."""

import random

import msgspec
import numpy as np
import pytest
from modelkit import a_mixed_model

from domain.vocabulary import Rung
from ml.evaluation.card import PLOTS, card
from ml.evaluation.tables import Asked
from ml.evaluation.variants import Lesson, without
from ml.features.schema import PLACE, SCHEMA, Group
from ml.training.bands import Costs
from ml.training.params import Params
from ml.training.trees import TreeRules
from service.evaluating import Order, evaluate_generated
from service.evaluating_runs import Scene
from service.evaluating_studies import OnRung, attacked, on_rung
from service.scoring import Line
from service.wiring import ScreenLists, load_pack

PACK = load_pack("base-1")
ASKED = Asked(costs=Costs(), seed=1, rounds=5)
ORDER = Order(impressions=2_000, worlds=1, seed=1, rounds=5, training_impressions=3_000, training_seed=1, studies=False)
FEW_TREES = Params(trees=TreeRules(trees=8, rows_per_leaf_min=5))


@pytest.fixture(scope="module")
def scene():
    return Scene(PACK, ScreenLists())


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    rng = random.Random(2)
    path = tmp_path_factory.mktemp("log") / "access.log"
    agents = (
        "Mozilla/5.0 (X11; Linux x86_64) Firefox/120.0",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://bing.com/bot)",
    )
    lines = [
        f"203.0.113.{visitor} - - [1{visitor % 9}/Nov/2026:1{visitor % 7}:{n:02}:{rng.randrange(60):02} +0000] "
        f'"GET /{n}.png HTTP/1.1" 200 9 "-" "{agents[visitor % 2]}"'
        for visitor in range(60)
        for n in range(rng.randrange(2, 9))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def told(_):
    """Progress is for whoever waits."""


@pytest.fixture(scope="module")
def evaluated(log):
    return evaluate_generated(None, msgspec.structs.replace(ORDER, access_log=log), PACK, told)


@pytest.mark.slow
def test_a_model_is_measured_on_traffic_that_its_training_never_saw_and_on_a_log(evaluated):
    found = evaluated.found
    assert found.data.gross == found.data.settled + found.data.left_open
    assert found.data.gross + found.data.aside >= ORDER.impressions
    assert found.known.left_open.invalid + found.held_out.left_open.invalid == found.data.left_open_invalid
    names = {one.baseline.name for one in found.known.baselines}
    assert names == {"rules", "rate", "logistic", "without_counters"}
    assert {row.name for row in found.held_out.families if row.invalid} <= {
        *("residential_bot", "slow_farm", "replay_new_ids", "mixed_bot", "falsified_view", "double_fire_sdk_other"),
        *("device_farm", "cloud_bot", "hidden", "ad_stacking"),
    }
    assert found.real.sessions == 60
    assert found.real.declared == 30
    assert set(evaluated.plots) == set(PLOTS)
    assert found.model in card(found)


@pytest.mark.slow
def test_the_same_seeds_give_the_same_model_the_same_figures_and_the_same_plots(evaluated, log):
    again = evaluate_generated(None, msgspec.structs.replace(ORDER, access_log=log), PACK, told)
    assert again == evaluated


@pytest.mark.slow
def test_on_a_rung_a_row_has_figures_of_what_was_scored_and_outcomes_of_everything(scene):
    advised = on_rung(OnRung(Rung.MODEL_FALLBACK, Line(previous=a_mixed_model()), "advises"), scene, 500, ASKED)
    ruled = on_rung(OnRung(Rung.MODEL_FALLBACK, Line(), "rules alone"), scene, 500, ASKED)
    assert advised.row.rows == ruled.row.rows
    assert "ece" in advised.row.figures
    assert "ece" not in ruled.row.figures
    assert advised.row.figures["valid_dropped"] == ruled.row.figures["valid_dropped"]
    assert advised.row.figures["uncertain_share"].value > ruled.row.figures["uncertain_share"].value
    assert ruled.mask is None
    assert advised.mask.startswith("no_async")


@pytest.mark.slow
def test_what_was_shed_counts_in_outcomes_although_it_has_no_score(scene):
    line = Line(champion=a_mixed_model())
    shed, full = (on_rung(OnRung(rung, line, ""), scene, 500, ASKED) for rung in (Rung.SHED, Rung.NO_ASYNC))
    assert shed.row.rows == full.row.rows
    assert shed.row.figures["uncertain_share"].value < full.row.figures["uncertain_share"].value


@pytest.mark.slow
def test_an_adversary_plays_its_rounds_against_the_gate(scene):
    rounds, sent = attacked(Line(), scene, 3, 1)
    assert len(rounds) == 1
    assert sent > 500
    assert 0 < max(rounds[0].counted) <= 1


def taught(rng, n=1_500):
    """Fast people are bots, and nothing else tells."""
    values = np.zeros((n, len(SCHEMA)))
    values[:, PLACE["person_gap_ms"]] = rng.choice((100.0, 5_000.0), n)
    values[:, PLACE["visible_ms"]] = rng.random(n)
    return values, np.where(values[:, PLACE["person_gap_ms"]] < 1_000, 0.9, 0.05)


def test_a_model_without_the_group_that_tells_finds_nothing_and_without_another_as_much():
    values, chance = taught(np.random.default_rng(1))
    lesson = Lesson(values, chance, values, chance)
    whole, blind, deaf = (
        without(lesson, groups, FEW_TREES, 1).score(values) for groups in ((), (Group.COUNTERS,), (Group.GEOMETRY,))
    )
    fast = values[:, PLACE["person_gap_ms"]] < 1_000
    assert whole[fast].mean() > 0.8
    assert whole[~fast].mean() < 0.2
    assert abs(deaf[fast].mean() - whole[fast].mean()) < 0.05
    assert blind[fast].mean() == pytest.approx(blind[~fast].mean(), abs=0.05)
