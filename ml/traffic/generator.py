"""
Seeded traffic: who comes when, what they are shown, and what is told about it.

The same plan, keys and start give the same bytes. Everything has a time of its own: the next ad of a session, and what
follows on an ad (views, retries, repeats). New sessions come as far as the rate of the plan leaves room for them, bots
among them as soon as their share of what was shown so far is due.
"""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from ml.traffic import habits
from ml.traffic.deeds import DEEDS, PLAYS
from ml.traffic.drills import Drill, draw_days
from ml.traffic.events import Event, Sending, Truth, TruthSink
from ml.traffic.families import OF_DEED, TRAINABLE, known
from ml.traffic.market import Market
from ml.traffic.shot import Minter, Session, Shot
from ml.traffic.visitors import Guests, Visitors, level

_PLANNING_MS_PER_EVENT = 0.026
_CAMPAIGNS_MIN = 4
_BURST_S = 3.7
"""What comes at once beyond so many seconds of the plan's rate comes on top of it."""
_FLOOD = "late_flood"
_MEAN_LEVEL = sum(habits.DAY_CURVE) / len(habits.DAY_CURVE)


class Plan(Struct, frozen=True, kw_only=True):
    """
    What to generate: *rate* events per second for *seconds*; retries and views are events too.

    With *day_curve*, *rate* is the mean of a day and each moment has its share of it. *families* take part beside
    people; those that are held out only if they are named. Publishers of apps have names that begin with *brand*.
    """

    seed: int
    rate: float
    seconds: float
    campaigns: int = 40
    people: int = 20_000
    day_curve: bool = False
    families: tuple[str, ...] = TRAINABLE
    drills: tuple[Drill, ...] = ()
    brand: str = ""


class Traffic:
    """
    The traffic of one plan. Building it reads the packages' data (0.4 s), so build first and then choose the start.

    *truth* is told about every event when it is sent for the first time.

    Raises:
        ValueError: the plan cannot be, or names a family that there is not.
    """

    def __init__(self, plan: Plan, minter: Minter, truth: TruthSink) -> None:
        if plan.campaigns < _CAMPAIGNS_MIN or plan.rate <= 0 or plan.people < 1:
            raise ValueError(f"a plan needs a rate, people, and at least {_CAMPAIGNS_MIN} campaigns")
        rng, families = Random(plan.seed), known(plan.families)
        self._rng, self._plan, self._minter, self._truth = rng, plan, minter, truth
        deeds = [(deed.name, deed.share) for deed in DEEDS if OF_DEED.get(deed.name, "") in families | {""}]
        self.market = Market(rng, plan.campaigns, deeds, families, plan.brand)
        self._visitors = Visitors(rng, Guests(plan.people, minter, families), self.market)
        self._days = draw_days(frozenset(plan.drills), plan.seconds, rng, outage=_FLOOD in families)
        self._has_outage = _FLOOD in families
        self._is_even = not plan.day_curve and not plan.drills
        self._ticket = count()
        self._later: list[tuple[int, int, int, Event, Truth | None]] = []
        self._sessions: list[tuple[int, int, Session]] = []
        self._shown = 0
        self._owed = 0.0

    def sendings(self, start_ms: int) -> Iterator[Sending]:
        """Yield what is to be sent, in order of time, from *start_ms* (epoch ms) on. To be iterated once."""
        plan, rng = self._plan, self._rng
        days = self._days = self._days.from_(start_ms)
        self._visitors.open(days, start_ms)
        later, sessions, end = self._later, self._sessions, start_ms + plan.seconds * 1e3
        clock = start_ms + rng.expovariate(self._rate(start_ms)) * 1e3
        until = int(min(clock, end))
        while True:
            at = later[0][0] if later else until
            due = sessions[0][0] if sessions else until
            if due < at and due < until:
                self._shoot(heappop(sessions)[2], due)
            elif at < until:
                yield self._sending()
            elif clock < end:
                if self._owed <= 0:
                    self._arrive(until)
                rate = plan.rate if self._is_even else self._rate(clock)
                self._owed = min(self._owed - 1, rate * _BURST_S)
                clock += rng.expovariate(rate) * 1e3
                until = int(min(clock, end))
            else:
                return

    def planned(self, clock: Callable[[], int]) -> list[Sending]:
        """
        Return all that is to be sent, beginning when this is done; *clock* gives epoch ms. The truth is told now.

        Costs 25 us an event here and 70 while a run is on and caches are cold, which then delays answers too: for runs
        up to some 200,000 events (1.3 kB each) this is the way to go.
        """
        start_ms = clock() + int(self._plan.rate * self._plan.seconds * _PLANNING_MS_PER_EVENT)
        sendings = list(self.sendings(start_ms))
        # where it took longer, everything is sent a little later than it says it happened, as clients do anyway
        behind_ms = clock() - start_ms
        if behind_ms > 0:
            return [Sending(sending.at_ms + behind_ms, sending.event, sending.attempt) for sending in sendings]
        return sendings

    def _rate(self, now: float) -> float:
        """Return how many events a second are to come at *now*."""
        rate = self._plan.rate * self._days.busy(now)
        return rate * level(now, 0) / _MEAN_LEVEL if self._plan.day_curve else rate

    def _arrive(self, now: int) -> None:
        for session in self._visitors.arrive(now, self._shown):
            self._shoot(session, now)

    def _sending(self) -> Sending:
        at, _, again, event, truth = heappop(self._later)
        if truth is None:
            self._owed += 1
        else:
            self._truth(truth)
            self._owed += truth.family != _FLOOD
        return Sending(at, event, again)

    def _shoot(self, session: Session, now: int) -> None:
        """Show the next ad of *session*, or the ads that lie in its place, and say when the one after comes."""
        rng = self._rng
        slot = self._visitors.slot(session)
        for nth in range(slot.placement.stack):
            shot = Shot(rng, self._minter, session, self._visitors.slot(session) if nth else slot, now)
            if rng.random() < shot.slot.campaign.habits.unreached:
                shot.ad()
            else:
                twice = rng.random() < session.sdk.fires_twice
                shot.deed = "double_fire" if twice else shot.slot.campaign.deeds.draw(rng)
                shot.rigs = self._visitors.rigs
                PLAYS[shot.deed](shot)
                if self._has_outage and self._days.outage.has(now):
                    self._hold_back(shot)
                for at, again, event, truth in shot.sent:
                    heappush(self._later, (at, next(self._ticket), again, event, truth))
            self._shown += 1
        gap_ms = session.gap_ms(rng)
        session.left -= 1
        if session.left > 0:
            heappush(self._sessions, (now + gap_ms, next(self._ticket), session))

    def _hold_back(self, shot: Shot) -> None:
        """Of somebody who is cut off nothing is sent before the outage is over."""
        person, outage = shot.session.person, self._days.outage
        if not person.human or person.country != self._visitors.cut_off:
            return
        for nth, (at, again, event, truth) in enumerate(shot.sent):
            is_held_back = outage.has(at) and (truth is None or truth.human)
            sent_at = self._days.flood_at(at, person.eager) if is_held_back else at
            told = truth and _of_the_flood(truth, sent_at)
            shot.sent[nth] = sent_at, again, event, told
            self._owed += told is not None and told.family == _FLOOD


def _of_the_flood(truth: Truth, sent_at: int) -> Truth:
    """What is invalid stays what it is; all of the ad is held out, as its events were torn apart."""
    return replace(truth, at_ms=sent_at, family=truth.family if truth.invalid else _FLOOD, held_out=True)
