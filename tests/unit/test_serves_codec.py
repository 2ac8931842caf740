"""Counts of served ads and of numbers, as they are written down: what was written once is read for ever."""

from pathlib import Path

import msgspec
import pytest
from builders import MINTED, cause
from hypothesis import given as for_all
from serveskit import reports, wire

from domain.sequences import SequenceCount, SequencesCounted
from domain.serves import AdsServed, ReportedMinute, ServedCount, ServesReport, record
from domain.vocabulary import Format, Surface
from ledger.codec import SCHEMA_VERSION, UnreadableCommit, decode, encode

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = FOLDER / f"serves-v{SCHEMA_VERSION}.json"
GOLDENS = [FOLDER / f"serves-v{version}.json" for version in range(1, SCHEMA_VERSION + 1)]
MINUTE = MINTED - MINTED % 60_000


def examples():
    return (
        AdsServed(
            cause=cause(1),
            digest="digest-1",
            source="edge-1.eu",
            minute=MINUTE,
            sequence=3,
            region="eu",
            received_at=MINTED,
            counts=(
                ServedCount("campaign-1", Surface.FEED, Format.DISPLAY, "fb-501.2", "EUR", 12, 24_000),
                ServedCount("campaign-2", Surface.AUDIENCE_NETWORK, Format.VIDEO, "", "USD", 1, 0),
            ),
        ),
        SequencesCounted(
            cause=cause(2),
            digest="",
            counted_at=MINTED,
            counts=(
                SequenceCount(MINUTE, Surface.REELS, "reels-375.2", 40, 2, 0, 1, 1),
                SequenceCount(MINUTE - 60_000, Surface.REELS, "reels-375.2", 0, -1, 1, 0, 0),
            ),
        ),
    )


def test_events_are_written_as_they_were_when_the_schema_was_made():
    written = b"".join(encode((event,)) + b"\n" for event in examples())
    assert written == GOLDEN.read_bytes(), "stored bytes changed: that is a new schema version and an upcaster"


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.stem for golden in GOLDENS])
def test_golden_events_are_read_as_they_were_written(golden):
    assert tuple(event for line in golden.read_bytes().splitlines() for event in decode(line)) == examples()


@for_all(report=reports)
def test_what_is_written_is_read_again(report):
    event = record(ReportedMinute(), msgspec.json.decode(wire(report), type=ServesReport), "eu", MINTED)
    assert decode(encode((event,))) == (event,)


@pytest.mark.parametrize("cut", [(b'"counts":[[', b'"counts":[[7,'), (b'"feed"', b'"billboard"'), (b"12,24000", b"12")])
def test_counts_that_are_not_whole_are_refused(cut):
    data = encode(examples()[:1])
    assert cut[0] in data
    with pytest.raises(UnreadableCommit):
        decode(data.replace(*cut))
