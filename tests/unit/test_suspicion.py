"""Two independent signals make a reason of class sivt; one alone makes an impression uncertain."""

import asyncio
from datetime import date

import pytest
from builders import DAY, MINTED, PACK, SECOND, a_claim, a_render, a_token
from gatekit import NOW, KitGate, Minter
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from commands.activity import Conduct, NoActivity
from domain.reasons import CLASS_OF, Reason, ReasonClass, Verdict
from domain.signals import Family, Signal
from domain.suspicion import (
    INCONSISTENT,
    STACKED,
    VIDEO_TOO_LONG,
    VISIBLE_TOO_LONG,
    Banding,
    Masked,
    fingerprint,
    geometry,
    suspect,
)
from domain.vocabulary import Format

OPEN_MS = 30 * SECOND
RHYTHM = Signal(Family.SEQUENCE, "rhythm", 0.01, 0.05)


def names(render, token=None):
    claim = a_claim(render, token, received_at=MINTED + OPEN_MS)
    return tuple(signal.name for signal in geometry(claim, PACK))


@pytest.mark.parametrize(("over_ms", "found"), [(0, ()), (1, (VISIBLE_TOO_LONG,))])
def test_nothing_is_visible_for_longer_than_since_it_was_served(over_ms, found):
    visible_ms = OPEN_MS + PACK.signals.visible_longer_ms + over_ms
    assert names(a_render(visible_ratio=1.0, visible_ms=visible_ms)) == found


@pytest.mark.parametrize(("over_ms", "found"), [(0, ()), (1, (VIDEO_TOO_LONG,))])
def test_a_feed_does_not_repeat_a_video_for_ever(over_ms, found):
    visible_ms = int(PACK.signals.video_longer_ratio * SECOND) + over_ms
    render = a_render(visible_ratio=1.0, visible_ms=visible_ms, duration_ms=SECOND)
    assert names(render, a_token(format=Format.VIDEO)) == found


@pytest.mark.parametrize(("more", "found"), [(0, ()), (1, (STACKED,))])
def test_one_ad_stands_in_one_place(more, found):
    assert names(a_render(stack_depth=PACK.signals.stack_depth_max + more)) == found


@pytest.mark.parametrize(("count", "found"), [(None, []), (1, []), (2, [(Family.FINGERPRINT, INCONSISTENT)])])
def test_a_device_that_contradicts_itself_twice_stands_out(count, found):
    claim = replace(a_claim(a_render()), fingerprint_inconsistencies=count)
    assert [(signal.family, signal.name) for signal in fingerprint(claim, PACK)] == found


def test_a_device_that_contradicts_itself_accuses_of_nothing_but_stands_beside_what_does():
    [contradiction] = fingerprint(replace(a_claim(a_render()), fingerprint_inconsistencies=2), PACK)
    assert suspect([contradiction], PACK) is None
    suspicion = suspect([contradiction, accusing()], PACK)
    assert (suspicion.reason, suspicion.pair) == (Reason.VIEW_FALSIFIED, (VISIBLE_TOO_LONG, INCONSISTENT))


def accusing(name=VISIBLE_TOO_LONG):
    return Signal(Family.GEOMETRY, name, 9_000.0, 5_000.0)


def test_two_families_make_a_reason_and_the_pair_is_named():
    suspicion = suspect([RHYTHM, accusing()], PACK)
    assert (suspicion.reason, suspicion.pair) == (Reason.VIEW_FALSIFIED, (VISIBLE_TOO_LONG, "rhythm"))


def test_a_signal_that_accuses_alone_makes_it_grey():
    suspicion = suspect([accusing()], PACK)
    assert (suspicion.reason, suspicion.pair) == (Reason.RISK_GREY, (VISIBLE_TOO_LONG,))


def test_two_signals_of_one_family_are_no_better_than_one():
    assert suspect([accusing(), accusing(STACKED)], PACK).reason is Reason.RISK_GREY


def test_what_accuses_nobody_decides_nothing():
    assert suspect([RHYTHM], PACK) is None
    assert suspect([], PACK) is None


class Says:
    """A model that finds the render *band*, and without the features of any family but *goes_by* no other."""

    def __init__(self, band=Banding.RISKY, *, goes_by=(), may_drop=True):
        self.band, self.may_drop, self._goes_by = band, may_drop, goes_by

    def without(self, family):
        return Masked(0.25, Banding.CLEAR) if family in self._goes_by else Masked(0.875, self.band)


def test_a_risky_opinion_and_a_signal_that_it_corroborates_are_a_high_risk():
    suspicion = suspect([RHYTHM], PACK, Says())
    assert (suspicion.reason, suspicion.pair, suspicion.masked_risk) == (Reason.RISK_HIGH, ("model", "rhythm"), 0.875)


def test_an_opinion_that_goes_by_that_family_corroborates_nothing():
    suspicion = suspect([RHYTHM], PACK, Says(goes_by=[Family.SEQUENCE]))
    assert (suspicion.reason, suspicion.pair, suspicion.masked_risk) == (Reason.RISK_GREY, ("model",), None)


def test_of_several_signals_the_first_that_is_corroborated_makes_the_pair():
    found = [RHYTHM, Signal(Family.RATE, "rate", 9, 5)]
    assert suspect(found, PACK, Says(goes_by=[Family.SEQUENCE])).pair == ("model", "rate")


def test_a_signal_that_accuses_is_kept_beside_a_high_risk_where_another_family_carries_it():
    assert suspect([RHYTHM, accusing()], PACK, Says()).reasons == (Reason.RISK_HIGH, Reason.VIEW_FALSIFIED)
    assert suspect([accusing()], PACK, Says()).reasons == (Reason.RISK_HIGH,)


@pytest.mark.parametrize("band", [Banding.RISKY, Banding.GREY])
def test_an_opinion_alone_makes_it_grey(band):
    suspicion = suspect([], PACK, Says(band))
    assert (suspicion.reasons, suspicion.pair) == ((Reason.RISK_GREY,), ("model",))


def test_a_grey_opinion_corroborates_nothing_and_a_clear_one_says_nothing():
    assert suspect([RHYTHM], PACK, Says(Banding.GREY)).reason is Reason.RISK_GREY
    assert suspect([RHYTHM], PACK, Says(Banding.CLEAR)) is None


def test_a_model_that_may_not_drop_makes_it_grey_at_most():
    assert suspect([RHYTHM], PACK, Says(may_drop=False)).reason is Reason.RISK_GREY


signals = st.builds(
    Signal,
    st.sampled_from(Family),
    st.sampled_from([VISIBLE_TOO_LONG, VIDEO_TOO_LONG, STACKED, "rhythm", "rate"]),
    st.floats(0, 100),
    st.floats(0, 100),
)


opinions = st.none() | st.builds(
    Says, st.sampled_from(Banding), goes_by=st.sets(st.sampled_from(Family)), may_drop=st.booleans()
)


@given(found=st.lists(signals, max_size=6), opinion=opinions)
def test_no_reason_of_class_sivt_without_two_families(found, opinion):
    suspicion = suspect(found, PACK, opinion)
    if suspicion is not None and CLASS_OF[suspicion.reason] is ReasonClass.SIVT:
        families = [
            {Family.MODEL} if name == "model" else {signal.family for signal in found if signal.name == name}
            for name in suspicion.pair
        ]
        assert any(one is not other for one in families[0] for other in families[1])
        if "model" in suspicion.pair:
            assert opinion.may_drop
            assert any(opinion.without(family).band is Banding.RISKY for family in families[1])
    if suspicion is not None and suspicion.reason is Reason.RISK_GREY:
        accusers = [signal for signal in found if signal.name in PACK.accuses]
        assert not any(signal.family is not accuser.family for accuser in accusers for signal in found)


@given(found=st.lists(signals, max_size=6), opinion=opinions, seed=st.randoms(use_true_random=False))
def test_the_reason_does_not_depend_on_the_order_of_the_signals(found, opinion, seed):
    shuffled = [*found]
    seed.shuffle(shuffled)
    told = [None if (said := suspect(order, PACK, opinion)) is None else said.reason for order in (found, shuffled)]
    assert told[0] is told[1]


class Rhythmic(NoActivity):
    """Counters that find a machine's rhythm in every render."""

    def look(self, claims):
        return {place: Conduct(signals=(RHYTHM,)) for place in range(len(claims))}


class Abusive(NoActivity):
    def look(self, claims):
        return {place: Conduct(abusive=True) for place in range(len(claims))}


def decision(activity, **changes):
    async def send():
        gate, clients = KitGate(activity=activity), Minter()
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        token = clients.token(at=NOW - OPEN_MS)
        [answer] = await gate.send(clients.render(token, **changes))
        _, scored, _ = await gate.events(token.impression)
        return answer, scored

    return asyncio.run(send())


IMPOSSIBLE = {"visible_ratio": 1.0, "visible_ms": DAY // 2}


def test_the_gate_drops_an_impossible_view_of_a_machine_and_stores_the_pair():
    answer, scored = decision(Rhythmic(), **IMPOSSIBLE)
    assert (answer.verdict, answer.reason) == (Verdict.DROPPED, Reason.VIEW_FALSIFIED)
    assert scored.pair == (VISIBLE_TOO_LONG, "rhythm")
    assert {signal.name for signal in scored.signals} == set(scored.pair)


def test_the_gate_is_uncertain_of_an_impossible_view_alone():
    answer, scored = decision(NoActivity(), **IMPOSSIBLE)
    assert (answer.verdict, answer.reason, answer.provisional) == (Verdict.UNCERTAIN, Reason.RISK_GREY, True)
    assert scored.pair == (VISIBLE_TOO_LONG,)


def test_a_rhythm_alone_counts():
    answer, scored = decision(Rhythmic())
    assert answer.verdict is Verdict.VALID
    assert (scored.signals, scored.pair) == ((RHYTHM,), ())


def test_a_rate_beyond_anything_human_needs_no_second_signal():
    answer, _ = decision(Abusive())
    assert (answer.verdict, answer.reason) == (Verdict.DROPPED, Reason.RATE_ABUSIVE)
