"""A gate in memory with a ladder whose clock stands until it is moved, and counters that fail on command."""

from gatekit import NOW, PACK, KitGate

from commands.activity import Conduct, NoActivity
from commands.ladder import Ladder
from commands.observing import GuardedActivity
from commands.scoring import ScoringActivity, Shedding
from ml.registry.guards import LIMITS
from service.contest import Contest
from service.scoring import GateScoring, ModelHolder, Sample


class Clock:
    """Seconds; it stands still until it is moved."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


class Counted(NoActivity):
    """Finds everybody abusive. It `raises`, or takes `seconds` by *clock*, on command; notes what it was asked."""

    def __init__(self, clock):
        self._clock = clock
        self.raises = False
        self.seconds = 0.0
        self.looks = 0
        self.looked = 0
        self.counted = 0

    def look(self, renders):
        self._work()
        self.looks += 1
        self.looked += len(renders)
        return dict.fromkeys(range(len(renders)), Conduct(abusive=True))

    def count(self, claims):
        self._work()
        self.counted += len(claims)

    def _work(self):
        self._clock.pass_by(self.seconds)
        if self.raises:
            raise ZeroDivisionError


class LadderGate(KitGate):
    """A gate on its ladder; `clock` moves the ladder's time."""

    def __init__(self, *stores, counters=None, line=None, propensity=0.0, **kept):
        self.clock = Clock()
        ladder = Ladder(self.clock)
        self.counters = counters or Counted(self.clock)
        self.guarded = GuardedActivity(self.counters, ladder)
        self.shedding = Shedding(ladder, PACK)
        self.models = ModelHolder(line)
        take = getattr(self.counters, "take_features", lambda: None)
        self.contest = Contest("eu-kit", LIMITS, lambda: NOW)
        self.scoring = GateScoring(take, self.models, Sample(b"k" * 32, propensity), ladder, self.contest)
        activity = ScoringActivity(self.guarded, self.scoring, ladder, self.shedding)
        super().__init__(*stores, activity=activity, ladder=ladder, **kept)

    def pass_by(self, seconds, step=0.25):
        """Let time go by, with a tick every *step* seconds."""
        for _ in range(int(seconds / step)):
            self.clock.pass_by(step)
            self.ladder.tick()

    async def scored(self, answer):
        """What was thought of the render that *answer* is about."""
        return next(event for event in await self.events(answer.impression_id) if hasattr(event, "rungs"))


__all__ = ["NOW", "PACK", "Clock", "Counted", "LadderGate"]
