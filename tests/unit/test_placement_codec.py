"""How placements are written down, and that what was written once is read for ever."""

from pathlib import Path
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import strategies as st
from test_codec import strategy

from domain.placement_events import ModelPlaced, ModelRef, Role, Stage
from ledger.codec import decode, encode

GOLDEN = Path(__file__).parents[1] / "golden" / "placements-v2.json"
AT = 1_790_000_000_000
FIRST, SECOND = (ModelRef(f"s2-{digit * 16}", digit * 64, "features-0a1b2c3d") for digit in "ab")


def told(number, reason):
    return {
        "cause": UUID(int=number),
        "digest": f"digest-{number}",
        "by": "0a1b2c3d4e5f",
        "reason": reason,
        "decided_at": AT + number,
        "stage": Stage.S2,
    }


EXAMPLES = (
    ModelPlaced(**told(1, "first model"), role=Role.CHAMPION, model=FIRST),
    ModelPlaced(**told(2, "in shadow for a day"), role=Role.CHALLENGER, model=SECOND),
    ModelPlaced(**told(3, "try it"), role=Role.CANARY, model=SECOND, share=0.05),
    ModelPlaced(**told(4, "guard: drop_share is over"), role=Role.NONE, model=SECOND),
    ModelPlaced(**told(5, "none is better"), role=Role.NONE, model=FIRST),
    ModelPlaced(**told(6, "it was not"), role=Role.CHAMPION, model=FIRST, rolled_back=True),
)


def test_there_is_a_golden_example_of_every_role():
    assert {event.role for event in EXAMPLES} == set(Role)


def test_events_are_written_as_they_were_when_the_schema_was_made():
    written = b"".join(encode((event,)) + b"\n" for event in EXAMPLES)
    assert written == GOLDEN.read_bytes(), "stored bytes changed: that is a new schema version and an upcaster"


def test_golden_events_are_read_as_they_were_written():
    assert tuple(event for line in GOLDEN.read_bytes().splitlines() for event in decode(line)) == EXAMPLES


@for_all(events=st.lists(strategy(ModelPlaced), min_size=1, max_size=4).map(tuple))
def test_what_is_written_is_read_again(events):
    assert decode(encode(events)) == events
