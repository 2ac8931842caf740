"""Somebody who learns from answers alone."""

from typing import NamedTuple

import msgspec

from domain.render import Kind, Render
from domain.token import TokenKey
from ml.traffic.adversary import HABITS, WAYS, Adversary
from ml.traffic.generator import Plan, Traffic
from ml.traffic.shot import Minter

START = 1_790_000_000_000
MINTER = Minter("k1", TokenKey(b"s" * 32, b"p" * 32), b"h" * 32, "eu")
ROUNDS = 6


class Told(NamedTuple):
    verdict: str | None


class Gate:
    """Counts what comes at least two seconds after the device's last ad, and says so to those who may know."""

    def __init__(self, *, says_verdicts=True):
        self._says_verdicts, self.sent, self._last = says_verdicts, [], {}

    def __call__(self, sendings):
        self.sent += sendings
        return [Told(self._verdict(sending) if self._says_verdicts else None) for sending in sendings]

    def _verdict(self, sending):
        render = msgspec.json.decode(sending.event.body(sending.at_ms, 0), type=Render)
        if render.kind is not Kind.RENDER:
            return None
        last, self._last[render.device] = self._last.get(render.device, 0), render.client_at
        return "valid" if render.client_at - last > 2_000 else "dropped"


def play(gate, seed=1, truth=lambda _: None, rounds=ROUNDS):
    market = Traffic(Plan(seed=1, rate=10, seconds=1), MINTER, lambda _: None).market
    adversary, played, at = Adversary(seed, MINTER, market, truth), [], START
    for _ in range(rounds):
        played.append(adversary.round(gate, at))
        at = played[-1].ends_ms + 3_600_000
    return played


def middle(one, name):
    return sorted(way.habits()[name] for way in one.ways)[WAYS // 2]


def test_it_finds_how_fast_it_may_be_from_verdicts_alone():
    rounds = play(Gate())
    assert 2_000 < middle(rounds[-1], "gap_ms") < 7_000
    assert sum(rounds[-1].earned) > 1.5 * sum(rounds[0].earned)


def test_who_is_told_no_verdict_learns_nothing():
    rounds = play(Gate(says_verdicts=False), rounds=2)
    assert not any(earned for one in rounds for earned in one.earned)
    seen = [way for one in rounds for way in one.ways]
    assert len(set(map(repr, seen))) == len(seen), "guesses anew every time"


def test_the_same_seed_and_answers_give_the_same_events():
    one, other = Gate(), Gate()
    assert play(one, rounds=2) == play(other, rounds=2)
    assert [sending.event.body(1, 0) for sending in one.sent] == [sending.event.body(1, 0) for sending in other.sent]
    assert play(Gate(), seed=2, rounds=2) != play(Gate(), rounds=2)


def test_its_habits_stay_within_what_is_possible_and_its_events_are_renders_by_the_schema():
    gate, truths = Gate(), []
    for one in play(gate, truth=truths.append, rounds=3):
        for way in one.ways:
            assert all(HABITS[name].low <= value <= HABITS[name].high + 1e-6 for name, value in way.habits().items())
    assert {truth.actor for truth in truths} == {truth.family for truth in truths} == {"adversary"}
    assert all(truth.invalid and truth.held_out and not truth.counts for truth in truths)
    assert len(truths) == len(gate.sent)
