"""docs/traffic.md says what the generator's tables say."""

import re
from pathlib import Path

import pytest

from ml.traffic.drills import Drill
from ml.traffic.families import FAMILIES
from ml.traffic.feedback import DELAYS
from ml.traffic.people import ACTORS

PAGE = (Path(__file__).parents[2] / "docs" / "traffic.md").read_text()
HOUR_MS = 3_600_000
UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}


def rows(title):
    """The cells of the table that begins with *title*."""
    found = re.findall(r"^\| `.*$", PAGE.partition(title)[2].partition("\n\n")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found]


def span_ms(text):
    """What `42 s - 5.3 h` says, in ms."""
    low, high = ([part, *rest] for part, *rest in (end.split() for end in text.split(" - ")))
    unit = high[1]
    return float(low[0]) * UNITS_MS[low[1] if len(low) > 1 else unit], float(high[0]) * UNITS_MS[unit]


def test_every_family_is_told_in_order_with_whether_it_is_held_out_and_invalid():
    told = [
        (name.strip("`"), held == "held out", invalid == "invalid") for name, held, invalid, _ in rows("| Family |")
    ]
    assert told == [(family.name, family.held_out, family.invalid) for family in FAMILIES]


def test_every_kind_of_person_is_told_with_its_share():
    told = {name.strip("`"): share for name, share, _ in rows("| Kind |")}
    assert told.keys() == {actor.name for actor in ACTORS}
    for actor in ACTORS:
        low, high = told[actor.name].removesuffix(" %").split("-")
        assert (float(low) / 100, float(high) / 100) == pytest.approx((actor.share.low, actor.share.high), rel=0.01)


def test_every_day_is_told():
    assert [name.strip("`") for name, _ in rows("| `--day` |")] == list(Drill)


def test_every_source_of_labels_is_told_with_its_delays():
    told = {row[0].strip("`"): (span_ms(row[4]), span_ms(row[5])) for row in rows("| Source |")}
    assert told.keys() == {source.value for source in DELAYS}
    for source, delay in DELAYS.items():
        for span, text in zip(delay, told[source.value], strict=True):
            assert (span.low, span.high) == pytest.approx(text, rel=0.12), source
