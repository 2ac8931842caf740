"""
Which test of shifted scores? False alarms where nothing changed, minutes until a change is found, CPU per row.

Run: python benchmarks/score_shift.py [--streams 10] [--minutes 240] [--only KS]. Streams are seeded; risks come as
visits of four rows on average. `waves` makes fraud come and go by the minute, `day` by half over twelve hours.
Windowed tests look once a minute at the last hour and want two looks running, as monitors do.
"""

import argparse
import time
from collections import deque

import numpy as np
from river.drift import ADWIN, KSWIN
from scipy import stats

from ml.monitors.decisions import _grouped
from ml.monitors.shifts import distance, distance_p_value, index, scatter_of
from ml.monitors.tallies import RISK_BINS, RISK_EDGES

PER_MINUTE, VISIT = 400, 4.0
HOUR = 60
CHANGE_AT = 90


def risks(chance, n, fraud=0.08, shift=0.0, scale=1.0):
    """Risks of people are small, those of bots large; neighbours are of one visit."""
    lengths = chance.geometric(1 / VISIT, n)
    is_bot = chance.random(n) < fraud
    logit = np.where(is_bot, chance.normal(2, 1.5, n), chance.normal(-5, 1.5, n)) * scale + shift
    return 1 / (1 + np.exp(-np.repeat(logit, lengths)[:n] - chance.normal(0, 0.2, n)))


def stream(seed, world, minutes):
    chance = np.random.default_rng([seed, 7])
    for minute in range(minutes):
        fraud, changes = 0.08, {}
        if world == "waves":
            fraud *= chance.gamma(4.0, 0.25)
        if world == "day":
            fraud *= 1 + 0.5 * np.sin(2 * np.pi * minute / 720)
        if minute >= CHANGE_AT:
            if world == "fraud x3":
                fraud *= 3
            if world == "logit +1":
                changes = {"shift": 1.0}
            if world == "blunt":
                changes = {"scale": 0.5}
        yield risks(chance, PER_MINUTE, fraud, **changes)


class Windowed:
    """Looks at the last hour once a minute; *says* tells of (slices, reference) whether it found something."""

    def __init__(self, says, reference):
        self.says, self.reference = says, reference
        self.slices, self.running = deque(maxlen=HOUR), 0

    def minute(self, rows):
        self.slices.append(np.bincount(np.searchsorted(RISK_EDGES, rows), minlength=RISK_BINS))
        found = len(self.slices) >= 5 and self.says(np.stack(self.slices), self.reference)
        self.running = self.running + 1 if found else 0
        return self.running == 2


class Streaming:
    """A detector of river's, fed with risks, or with means of *per* of them."""

    def __init__(self, make, per=1):
        self.detector, self.per = make(), per

    def minute(self, rows):
        alarm = False
        for value in rows.reshape(-1, self.per).mean(axis=1).tolist():
            self.detector.update(value)
            alarm |= self.detector.drift_detected
        return alarm


def ks(slices, then, *, corrected, far_min):
    now = slices.sum(axis=0)
    factor = scatter_of(_grouped(slices, then)).factor if corrected else 1.0
    far = distance(now, then)
    return far >= far_min and distance_p_value(far, (now.sum(), then.sum()), factor) <= 0.01


def mean_z(slices, then):
    """A t-test of the means of minutes against the reference's mean."""
    centres = np.concatenate([[RISK_EDGES[0]], (RISK_EDGES[1:] + RISK_EDGES[:-1]) / 2, [RISK_EDGES[-1]]])
    means = slices @ centres / slices.sum(axis=1)
    return stats.ttest_1samp(means, then @ centres / then.sum()).pvalue <= 0.01


def detectors(reference):
    return {
        "ADWIN 0.002": lambda: Streaming(lambda: ADWIN(delta=0.002)),
        "ADWIN 1e-8": lambda: Streaming(lambda: ADWIN(delta=1e-8)),
        "KSWIN 0.005": lambda: Streaming(lambda: KSWIN(alpha=0.005, window_size=300, stat_size=100, seed=1)),
        "KSWIN 1e-6": lambda: Streaming(lambda: KSWIN(alpha=1e-6, window_size=300, stat_size=100, seed=1)),
        "ADWIN of minutes": lambda: Streaming(lambda: ADWIN(delta=0.002, clock=1), per=PER_MINUTE),
        "t of means": lambda: Windowed(mean_z, reference),
        "KS, as draws": lambda: Windowed(lambda s, r: ks(s, r, corrected=False, far_min=0.0), reference),
        "KS, scatter": lambda: Windowed(lambda s, r: ks(s, r, corrected=True, far_min=0.0), reference),
        "PSI 0.25": lambda: Windowed(
            lambda s, r: index(_grouped(s, r).sum(axis=0), _grouped(r[None], r)[0]) >= 0.25, reference
        ),
        "KS, scatter, D 0.1": lambda: Windowed(lambda s, r: ks(s, r, corrected=True, far_min=0.1), reference),
        "KS, scatter, D 0.05": lambda: Windowed(lambda s, r: ks(s, r, corrected=True, far_min=0.05), reference),
    }


def run(make, world, streams, minutes):
    """Return false alarms per stream and day, the share of streams that found the change, minutes to it, us a row."""
    false, delays, began = 0, [], time.process_time()
    changes = world in {"fraud x3", "logit +1", "blunt"}
    for seed in range(streams):
        detector, found = make(), None
        for minute, rows in enumerate(stream(seed, world, minutes)):
            alarm = detector.minute(rows)
            if alarm and changes and minute >= CHANGE_AT:
                found = minute - CHANGE_AT
                break
            false += alarm
        delays += [found] if found is not None else []
    spent = time.process_time() - began
    days = streams * (CHANGE_AT if changes else minutes) / 1_440
    return false / days, len(delays) / streams, float(np.median(delays)) if delays else None, spent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--minutes", type=int, default=240)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    rows = np.concatenate([risks(np.random.default_rng([1, at]), PER_MINUTE) for at in range(200)])
    reference = np.bincount(np.searchsorted(RISK_EDGES, rows), minlength=RISK_BINS)
    worlds = ("as trained", "waves", "day", "fraud x3", "logit +1", "blunt")
    print("| Test |", " | ".join(worlds), "| s |")
    for name, make in detectors(reference).items():
        if arguments.only not in name:
            continue
        cells, whole = [], 0.0
        for world in worlds:
            false, share, delay, spent = run(make, world, arguments.streams, arguments.minutes)
            whole += spent
            found = f"; {share:.0%} in {delay:g} min" if delay is not None else "; 0%" if world in worlds[3:] else ""
            cells.append(f"{false:.1f}{found}")
        print(f"| {name} |", " | ".join(cells), f"| {whole:.1f} |", flush=True)


if __name__ == "__main__":
    main()
