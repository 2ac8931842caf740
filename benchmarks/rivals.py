"""What rivals cost beside the champion: CPU per render, on the path of a batch and off it; prints JSON."""

import json
import platform
import time
from uuid import UUID

import numba
import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier

from commands.items import Ready
from domain.events import ImpressionRendered, Versions
from domain.ids import mint
from domain.render import Kind
from domain.vocabulary import BillingEvent, Format, Surface
from ml.features.matrix import Vectors
from ml.features.schema import SCHEMA
from ml.models.artifact import Band, Calibration, ModelArtifact, ModelFacts, Stage
from ml.models.export import of_sklearn
from ml.models.scorer import Scorer
from ml.registry.guards import LIMITS
from service.contest import Asked, Contest, _scored

NOW, SEED, TREES, DEPTH, ROUNDS = 1_790_000_000_000, 1, 150, 6, 5
RNG = np.random.default_rng(SEED)


def a_model(number):
    rows = RNG.normal(size=(20_000, len(SCHEMA)))
    wrong = rows[:, 0] + rows[:, 3] * rows[:, 7] + RNG.normal(size=len(rows)) > 1
    fitted = HistGradientBoostingClassifier(max_iter=TREES, max_depth=DEPTH, random_state=number).fit(rows, wrong)
    artifact = ModelArtifact(
        stage=Stage.S2,
        trees=of_sklearn(fitted),
        calibrations={"full": Calibration("platt", np.array([1.0, 0.0]), np.array([]))},
        bands={"full": Band(0.4, 0.8)},
        card=ModelFacts(seed=SEED, snapshot="none", ledger_range=(0, 0), trained_until=0, rows=0, positives=0),
    )
    return Scorer(artifact, f"s2-{number}")


def a_render(number):
    claim = ImpressionRendered(
        cause=UUID(int=number), digest="", ad="a", creative="c", campaign="c", advertiser="a", placement="p",
        publisher="p", surface=Surface.FEED, format=Format.DISPLAY, region="eu", currency="EUR", price_micros=2_000,
        billing_event=BillingEvent.IMPRESSION, viewability_pack="mrc", flight_start=0, flight_end=NOW, served_at=NOW,
        received_at=NOW, event_at=NOW,
    )  # fmt: skip
    impression = mint(NOW, 7, int(RNG.integers(1 << 62)))
    versions = Versions(pack="base-1", lists="none")
    return Ready(impression=impression, kind=Kind.RENDER, claim=claim, reasons=(), slots=(), versions=versions, raw=b"")


def cost_us(work, rows):
    """Return CPU microseconds per row, the median of some rounds."""
    repeats, taken = max(20, 20_000 // rows), []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(repeats):
            work()
        taken.append((time.thread_time() - began) / repeats / rows * 1e6)
    return round(float(np.median(taken)), 2)


def measured(rows, champion, rival):
    shape = (rows, len(SCHEMA))
    values = RNG.normal(size=shape).astype(np.float32).astype(np.float64)
    asked = Asked([a_render(number) for number in range(rows)], Vectors(values, np.zeros(shape, np.uint8)), ())
    contest = Contest("bench", LIMITS, lambda: NOW)

    def with_rivals(canary, challenger):
        contest.score(asked, champion, canary, challenger)
        contest._pending.clear()  # noqa: SLF001 (nobody compares here)

    contest.score(asked, champion, None, rival)
    [waiting] = contest._pending  # noqa: SLF001
    return {
        "alone": cost_us(lambda: champion.score(asked.vectors, ()), rows),
        "path_without_rivals": cost_us(lambda: with_rivals(None, None), rows),
        "path_with_challenger": cost_us(lambda: with_rivals(None, rival), rows),
        "path_with_canary_of_5_percent": cost_us(lambda: with_rivals((rival, 0.05), None), rows),
        "challenger_off_the_path": cost_us(lambda: contest._note(waiting, _scored(waiting)), rows),  # noqa: SLF001
    }


def main():
    champion, rival = a_model(1), a_model(2)
    print(
        json.dumps(
            {
                "machine": {"python": platform.python_version(), "cpu": platform.processor() or platform.machine()},
                "versions": {"numba": numba.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__},
                "seed": SEED,
                "trees": TREES,
                "depth": DEPTH,
                "cpu_us_per_render_by_batch": {rows: measured(rows, champion, rival) for rows in (1, 20, 100, 512)},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
