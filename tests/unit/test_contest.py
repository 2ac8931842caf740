"""The champion's rivals in a gate: who scores what, what is compared, and which guard ends a canary."""

import asyncio
import itertools
from threading import get_ident

import numpy as np
import pytest
from builders import MINTED, PRICE, VERSIONS, a_claim, a_token, admit
from modelkit import rows
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from registrykit import a_model, saying, scorer_of

from commands.items import Ready
from domain.decide import decide
from domain.ids import mint
from domain.impression import fold
from domain.placement_events import Role
from domain.reasons import Reason
from domain.render import Kind
from ml.models.scorer import CLEAR, RISKY
from ml.registry.arms import in_share
from ml.registry.guards import LIMITS, Guard
from ml.registry.side_by_side import SideBySide
from service import contest as contests
from service.contest import Asked, Contest

CHAMPION, OTHER = scorer_of(saying(-4.0)), scorer_of(saying(4.0))
STRICT = scorer_of(a_model(threshold=1.0, left=4.0, right=-4.0))
HALF = (OTHER, 0.5)
_numbers = itertools.count(1)


class Broken:
    """A scorer that is wrong with something."""

    id = "s2-broken"

    def score(self, vectors, without):
        raise ZeroDivisionError


def a_contest(**changes):
    fields = {"gate": "eu-1", "limits": LIMITS, "clock": lambda: MINTED}
    return Contest(**{**fields, **changes})


def a_ready(*, reasons=()):
    impression = mint(MINTED, 7, next(_numbers) * 0x9E37_79B9_7F4A_7C15)
    token = a_token(impression=impression)
    return Ready(
        impression=impression,
        kind=Kind.RENDER,
        claim=a_claim(token=token),
        reasons=reasons,
        slots=(),
        versions=VERSIONS,
        raw=b"{}",
    )


def asked(n=20, *, items=None, **values):
    renders = [a_ready() for _ in range(n)] if items is None else items
    return Asked(renders, rows(len(renders), **values), ())


def names(chosen):
    return [scorer.id for scorer in chosen.scorers]


def compared(contest):
    asyncio.run(contest.compare())
    return {row.key.role: row for row in contest.beside.take(MINTED)}


def test_without_rivals_the_champion_scores_and_nothing_is_compared():
    contest = a_contest()
    chosen = contest.score(asked(), CHAMPION, None, None)
    assert names(chosen) == [CHAMPION.id] * 20
    assert (chosen.scores.band == CLEAR).all()
    assert compared(contest) == {}


def test_a_challenger_decides_nothing_and_is_compared_on_every_render():
    contest = a_contest()
    chosen = contest.score(asked(), CHAMPION, None, OTHER)
    assert names(chosen) == [CHAMPION.id] * 20
    assert (chosen.scores.band == CLEAR).all()
    row = compared(contest)[Role.CHALLENGER]
    assert (row.key.champion, row.key.other, row.key.currency) == (CHAMPION.id, OTHER.id, "EUR")
    assert (row.rows, row.agreed, row.stricter, row.money_micros) == (20, 0, 20, -20 * PRICE)


def test_where_the_screen_speaks_against_a_render_no_money_hangs_on_a_model():
    contest = a_contest()
    contest.score(asked(items=[a_ready(reasons=(Reason.AREA_INVISIBLE,))]), CHAMPION, None, OTHER)
    assert compared(contest)[Role.CHALLENGER].money_micros == 0


def test_a_canary_decides_for_its_share_and_the_others_word_is_kept_beside():
    contest, what = a_contest(), asked(200)
    chosen = contest.score(what, CHAMPION, HALF, None)
    theirs = in_share([item.impression for item in what.renders], OTHER.id, 0.5)
    assert 60 < theirs.sum() < 140
    assert names(chosen) == [OTHER.id if own else CHAMPION.id for own in theirs]
    assert (chosen.scores.band == np.where(theirs, RISKY, CLEAR)).all()
    row = compared(contest)[Role.CANARY]
    assert (row.rows, row.stricter) == (theirs.sum(), theirs.sum())


def test_a_challenger_is_compared_with_the_champion_also_where_a_canary_decides():
    contest = a_contest()
    contest.score(asked(100), CHAMPION, HALF, OTHER)
    row = compared(contest)[Role.CHALLENGER]
    assert (row.rows, row.agreed) == (100, 0)


def test_a_canary_that_cannot_score_leaves_its_renders_to_the_champion_and_is_ended_for_it():
    contest, broken = a_contest(), Broken()
    for _ in range(40):
        chosen = contest.score(asked(20), CHAMPION, (broken, 0.5), None)
        assert names(chosen) == [CHAMPION.id] * 20
    assert contest.tripped.guard is Guard.ERRORS
    assert contest.failed == 40


def test_a_challenger_that_cannot_score_is_counted_and_nothing_else_happens():
    contest = a_contest()
    contest.score(asked(), CHAMPION, None, Broken())
    assert (compared(contest), contest.failed) == ({}, 1)
    contest.score(asked(), CHAMPION, None, OTHER)
    assert compared(contest)[Role.CHALLENGER].rows == 20


class Watched(SideBySide):
    """Notes in which threads it was used."""

    def __init__(self):
        super().__init__("eu-1")
        self.threads = []

    def note(self, *args):
        self.threads.append(get_ident())
        return super().note(*args)


class Elsewhere:
    """A scorer that notes in which threads it was asked."""

    id = OTHER.id

    def __init__(self):
        self.threads = []

    def score(self, vectors, without):
        self.threads.append(get_ident())
        return OTHER.score(vectors, without)


def test_a_challenger_scores_in_a_thread_and_what_it_said_is_counted_where_it_is_taken_away():
    contest, challenger = a_contest(), Elsewhere()
    contest.beside = beside = Watched()
    contest.score(asked(), CHAMPION, None, challenger)
    assert compared(contest)[Role.CHALLENGER].rows == 20
    assert beside.threads == [get_ident()]
    assert len(challenger.threads) == 1
    assert challenger.threads != beside.threads


def test_what_a_rival_has_no_time_for_is_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(contests, "PENDING_MAX", 2)
    contest = a_contest()
    for _ in range(5):
        contest.score(asked(10), CHAMPION, None, OTHER)
    assert contest.skipped == 30
    assert compared(contest)[Role.CHALLENGER].rows == 20


def test_under_load_rivals_that_decide_nothing_score_nothing():
    contest = a_contest(is_busy=lambda: True)
    contest.score(asked(10), CHAMPION, None, OTHER)
    assert (compared(contest), contest.skipped) == ({}, 10)


def an_outcome(model, also=()):
    command = admit(also=also)
    scored = replace(command.scored, versions=replace(command.scored.versions, model=model))
    return tuple(decide(fold([]), replace(command, scored=scored)))


def decisions(contest, batches, canary, champion=()):
    """Batches of one decision by the canary and nine by the champion, with the reasons *canary* and *champion*."""
    for _ in range(batches):
        contest.score(asked(1), CHAMPION, HALF, None)
        contest.decided(an_outcome(OTHER.id, canary))
        for _ in range(9):
            contest.decided(an_outcome(CHAMPION.id, champion))
    contest.score(asked(1), CHAMPION, HALF, None)


@pytest.mark.parametrize(("reason", "guard"), [(Reason.RISK_GREY, Guard.UNCERTAIN), (Reason.RISK_HIGH, Guard.DROPPED)])
def test_a_canary_whose_verdicts_are_worse_is_ended(reason, guard):
    contest = a_contest()
    decisions(contest, 40, canary=(reason,))
    assert contest.tripped.guard is guard
    assert contest.tripped.difference == pytest.approx(1.0)


def test_a_canary_like_its_champion_is_not_ended_however_bad_both_are():
    contest = a_contest()
    decisions(contest, 40, canary=(Reason.RISK_GREY,), champion=(Reason.RISK_GREY,))
    assert contest.tripped is None


def test_limits_are_those_that_the_operator_set():
    contest = a_contest(limits={**LIMITS, Guard.UNCERTAIN: 1.0})
    decisions(contest, 40, canary=(Reason.RISK_GREY,))
    assert contest.tripped is None


def test_a_canary_that_takes_too_long_is_ended(monkeypatch):
    moments = itertools.count()

    def clock():
        """Every second call of a model takes a second: the canary's."""
        at = next(moments)
        return float(at) if at % 4 == 3 else float(at - at % 4)

    monkeypatch.setattr(contests, "perf_counter", clock)
    contest = a_contest()
    for _ in range(40):
        contest.score(asked(20), CHAMPION, HALF, None)
    assert contest.tripped.guard is Guard.SLOW


def test_a_new_pair_of_models_is_watched_anew():
    contest = a_contest()
    decisions(contest, 40, canary=(Reason.RISK_GREY,))
    contest.score(asked(1), CHAMPION, (STRICT, 0.5), None)
    assert contest.tripped is None
    contest.score(asked(1), CHAMPION, None, None)
    contest.decided(an_outcome(OTHER.id))
    assert contest.tripped is None


def test_an_ended_canary_is_told_of_in_the_metrics():
    contest, registry = a_contest(), CollectorRegistry()
    registry.register(contest)
    decisions(contest, 40, canary=(Reason.RISK_GREY,))
    assert b'impledger_canary_over{guard="uncertain_share"} 1.0' in generate_latest(registry)
    contest.ended(contest.tripped)
    asyncio.run(contest.compare())
    told = generate_latest(registry).decode()
    assert 'impledger_canaries_ended_total{guard="uncertain_share"} 1.0' in told
    assert "impledger_canary_over{" not in told
    assert 'impledger_beside_total{band="stricter",role="canary"} ' in told
    assert 'impledger_beside_money_micros{currency="EUR",role="canary"} -' in told
