"""
Labels out of the truth, as the world gives them: late, few, and some of them wrong.

Nothing of the system sees the truth; what training may see of it comes through here. Each source has its own delay,
speaks of a share of each kind of traffic, and errs, both ways (semantics 18 of the design). Traffic with a held-out
family in it has labels only where evaluation asks for them.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from domain import feedback
from domain.ids import ImpressionId
from domain.render import Kind
from domain.vocabulary import Label, LabelSource
from ml.traffic.draw import Span
from ml.traffic.events import Truth
from ml.traffic.families import BY_NAME, Of
from ml.traffic.market import FIRST_PARTY

REMEMBERED_MAX = 65_536
"""Impressions of which is remembered that they were told of: more than come between two events of one."""
_NO_STREAM = frozenset({"malformed", "forged", "expired", "misdirected"})
"""What never has a stream that a label could be of."""


class Feedback(Struct, frozen=True, kw_only=True):
    """What *source* says of an impression: seen at `observed_at`, told at `received_at`; both epoch ms."""

    id: UUID
    impression_id: ImpressionId
    source: LabelSource
    label: Label
    observed_at: int
    received_at: int

    def posted(self) -> feedback.Feedback:
        """Return it as its sender posts it."""
        return feedback.Feedback(
            id=self.id,
            type=self.source,
            impression_id=self.impression_id,
            label=self.label,
            observed_at=self.observed_at,
        )


class Delay(NamedTuple):
    """How many ms after the impression a source sees something, and how many later it tells."""

    seen: Span
    told: Span


def _minutes(low: float, high: float) -> Span:
    return Span(low * 60_000, high * 60_000, by_size=True)


def _hours(low: float, high: float) -> Span:
    return _minutes(low * 60, high * 60)


DELAYS: dict[LabelSource, Delay] = {
    LabelSource.HONEYPOT: Delay(_minutes(0.015, 0.12), _minutes(0.7, 23)),
    LabelSource.DECLARED_BOT: Delay(_minutes(0.00007, 0.003), _minutes(0.012, 0.28)),
    LabelSource.SDK_BUG: Delay(_hours(5, 71), _hours(0.22, 9)),
    LabelSource.HUMAN_REVIEW: Delay(_hours(2.7, 80), _hours(0.05, 7)),
    LabelSource.ACCOUNT_ACTION: Delay(_hours(2.3, 110), _hours(0.03, 0.7)),
    LabelSource.THIRD_PARTY: Delay(_hours(0.28, 13), _hours(0.8, 31)),
    LabelSource.HUMAN_SIGNAL: Delay(_minutes(0.7, 320), _minutes(0.12, 11)),
    LabelSource.DISPUTE: Delay(_hours(62, 620), _hours(5, 82)),
    LabelSource.PUBLISHER_BAN: Delay(_hours(31, 410), _hours(1.7, 29)),
}
"""Once an account or a publisher is taken down or a bug confirmed, what comes after is told within the second delay."""

REVIEWED = 0.0043
"""Share of all impressions, whatever they are, that somebody looks at."""
REVIEW_MISSES, REVIEW_ACCUSES = 0.073, 0.021
"""Share of invalid impressions that a reviewer takes for a person's, and the other way round."""
VERIFIED_CAMPAIGNS = 0.31
"""Share of campaigns that a third party measures."""
VERIFIER_FINDS = {"declared_crawler": 0.97, "cloud_bot": 0.83, "device_farm": 0.57, "ad_stacking": 0.41, "hidden": 0.46}
VERIFIER_FINDS_OTHERS, VERIFIER_ACCUSES = 0.29, 0.0061
"""Of people it accuses so many that about 8 % of its verdicts are wrong."""
HONEYPOT_MEETS = {"declared_crawler": 0.061, "cloud_bot": 0.053, "device_farm": 0.017}
HONEYPOT_MEETS_OTHERS, HONEYPOT_MEETS_PEOPLE = 0.009, 0.00003
DECLARED_KNOWN = 0.93
TAKEN_DOWN = {"device_farm": 0.43, "cloud_bot": 0.19}
TAKEN_DOWN_OTHERS, PEOPLE_TAKEN_DOWN = 0.23, 0.0013
SIGNALS_OF_PEOPLE, SIGNALS_OF_BOTS = 0.117, 0.0041
"""Purchases, challenges passed, long sessions; bots have them made."""
DISPUTED, PEOPLE_DISPUTED = 0.034, 0.00047
BANNED, WRONGLY_BANNED = 0.71, 0.011
BUG_COVERED, BUG_ACCUSES = 0.94, 0.027
"""Share of second fires of a version that its confirmed bug covers, and of first ones that it takes for second."""


class _Case(NamedTuple):
    """When a source made up its mind about somebody, something or a version; None if it never does."""

    seen_at: int | None
    told_at: int


class Labels:
    """
    Tells what the sources say, impression by impression; *held_out* also of families that training must not see.

    The same seed and truths, in order, give the same labels. Keeps what it decided per account, publisher and campaign.
    """

    def __init__(self, seed: int, *, held_out: bool = False) -> None:
        self._seed = seed
        self._rng = Random(f"labels {seed}")
        self._held_out = held_out
        self._told: OrderedDict[UUID, None] = OrderedDict()
        self._cases: dict[tuple[LabelSource, str], _Case] = {}
        self._verified: dict[str, bool] = {}

    def of(self, truths: Iterable[Truth]) -> Iterator[Feedback]:
        """Yield the labels of *truths*, those of one impression together, not in order of receipt."""
        for truth in truths:
            if self._is_news(truth):
                yield from self._about(truth)

    def _is_news(self, truth: Truth) -> bool:
        """Whether *truth* is the first of an impression that anybody could speak of."""
        if truth.kind is not Kind.RENDER or truth.deed in _NO_STREAM or not (truth.counts or truth.invalid):
            return False
        if truth.impression_id in self._told:
            return False
        self._told[truth.impression_id] = None
        if len(self._told) > REMEMBERED_MAX:
            self._told.popitem(last=False)
        return self._held_out or not truth.held_out

    def _about(self, truth: Truth) -> Iterator[Feedback]:
        rng, is_bot = self._rng, truth.invalid and not truth.human
        if rng.random() < REVIEWED:
            accuses = rng.random() >= REVIEW_MISSES if truth.invalid else rng.random() < REVIEW_ACCUSES
            yield self._label(truth, LabelSource.HUMAN_REVIEW, Label.INVALID if accuses else Label.HUMAN)
        if rng.random() < _by_kind(truth, HONEYPOT_MEETS, HONEYPOT_MEETS_OTHERS if is_bot else HONEYPOT_MEETS_PEOPLE):
            yield self._label(truth, LabelSource.HONEYPOT)
        if truth.family == "declared_crawler" and rng.random() < DECLARED_KNOWN:
            yield self._label(truth, LabelSource.DECLARED_BOT)
        if rng.random() < (SIGNALS_OF_BOTS if is_bot else SIGNALS_OF_PEOPLE):
            yield self._label(truth, LabelSource.HUMAN_SIGNAL, Label.HUMAN)
        finds = VERIFIER_FINDS_OTHERS if truth.invalid else VERIFIER_ACCUSES
        if self._is_verified(truth.campaign) and rng.random() < _by_kind(truth, VERIFIER_FINDS, finds):
            yield self._label(truth, LabelSource.THIRD_PARTY)
        if rng.random() < (DISPUTED if truth.invalid else PEOPLE_DISPUTED):
            yield self._label(truth, LabelSource.DISPUTE)
        yield from self._by_case(truth, is_bot=is_bot)

    def _by_case(self, truth: Truth, *, is_bot: bool) -> Iterator[Feedback]:
        """What is decided once about all that an account, a publisher or a version did."""
        rng = self._rng
        chance = _by_kind(truth, TAKEN_DOWN, TAKEN_DOWN_OTHERS) if is_bot else PEOPLE_TAKEN_DOWN
        if truth.family != "declared_crawler":
            yield from self._case(truth, LabelSource.ACCOUNT_ACTION, str(truth.who), chance)
        if truth.publisher not in FIRST_PARTY:
            yield from self._ban(truth)
        if truth.deed == "double_fire":
            second = truth.duplicate_of is not None
            if rng.random() < (BUG_COVERED if second else BUG_ACCUSES):
                yield from self._case(truth, LabelSource.SDK_BUG, truth.family, 1.0)

    def _ban(self, truth: Truth) -> Iterator[Feedback]:
        """All of a banned publisher's traffic, its people's too; it is looked at from the first time that it cheats."""
        source, cheating = LabelSource.PUBLISHER_BAN, f"{truth.publisher} cheats"
        if _of(truth) is Of.PLACE or (source, cheating) in self._cases:
            yield from self._case(truth, source, cheating, BANNED)
        else:
            yield from self._case(truth, source, truth.publisher, WRONGLY_BANNED)

    def _case(self, truth: Truth, source: LabelSource, about: str, chance: float) -> Iterator[Feedback]:
        case = self._cases.get((source, about))
        if case is None:
            rng = Random(f"{self._seed} {source} {about}")
            seen = truth.at_ms + DELAYS[source].seen.whole(rng)
            case = _Case(seen if rng.random() < chance else None, seen + DELAYS[source].told.whole(rng))
            self._cases[source, about] = case
        if case.seen_at is None:
            return
        label = Label.INSTRUMENTATION if source is LabelSource.SDK_BUG else Label.INVALID
        if truth.at_ms <= case.seen_at:
            yield self._made(truth, source, label, (case.seen_at, case.told_at))
            return
        yield self._made(truth, source, label, (truth.at_ms, truth.at_ms + DELAYS[source].told.whole(self._rng)))

    def _is_verified(self, campaign: str) -> bool:
        known = self._verified.get(campaign)
        if known is None:
            known = Random(f"{self._seed} verified {campaign}").random() < VERIFIED_CAMPAIGNS
            self._verified[campaign] = known
        return known

    def _label(self, truth: Truth, source: LabelSource, label: Label = Label.INVALID) -> Feedback:
        seen = truth.at_ms + DELAYS[source].seen.whole(self._rng)
        return self._made(truth, source, label, (seen, seen + DELAYS[source].told.whole(self._rng)))

    def _made(self, truth: Truth, source: LabelSource, label: Label, at: tuple[int, int]) -> Feedback:
        return Feedback(
            id=UUID(int=self._rng.getrandbits(128), version=4),
            impression_id=truth.impression_id,
            source=source,
            label=label,
            observed_at=at[0],
            received_at=at[1],
        )


def _of(truth: Truth) -> Of | None:
    family = BY_NAME.get(truth.family)
    return None if family is None else family.of


def _by_kind(truth: Truth, shares: dict[str, float], others: float) -> float:
    return shares.get(truth.family, others) if truth.invalid else others
