"""How events of campaigns are written down, and that what was written once is read for ever."""

import typing
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from test_codec import strategy

from domain.campaign_events import (
    BudgetChanged,
    CampaignEvent,
    CampaignOpened,
    CampaignPaused,
    CampaignResumed,
    FlightChanged,
)
from domain.vocabulary import BillingEvent
from ledger.codec import SCHEMA_VERSION, decode, encode

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = FOLDER / f"campaign-events-v{SCHEMA_VERSION}.json"
GOLDENS = [FOLDER / f"campaign-events-v{version}.json" for version in range(1, SCHEMA_VERSION + 1)]
EVENTS = typing.get_args(CampaignEvent)
AT = 1_790_000_000_000


def told(number):
    return {"cause": UUID(int=number), "digest": f"digest-{number}", "by": "0a1b2c3d", "decided_at": AT + number}


EXAMPLES = (
    CampaignOpened(
        **told(1),
        advertiser="advertiser-1",
        account="account-1",
        currency="EUR",
        time_zone="Europe/Berlin",
        billing_event=BillingEvent.VIEWABLE,
        viewability_pack="mrc",
        flight_start=AT,
        flight_end=AT + 86_400_000,
        budget_micros=5_000_000_000,
        daily_budget_micros=500_000_000,
    ),
    FlightChanged(**told(2), flight_start=AT, flight_end=AT + 1),
    BudgetChanged(**told(3), budget_micros=6_000_000_000),
    CampaignPaused(**told(4)),
    CampaignResumed(**told(5)),
)


def test_there_is_a_golden_example_of_every_event():
    assert tuple(type(event) for event in EXAMPLES) == EVENTS


def test_events_are_written_as_they_were_when_the_schema_was_made():
    written = b"".join(encode((event,)) + b"\n" for event in EXAMPLES)
    assert written == GOLDEN.read_bytes(), "stored bytes changed: that is a new schema version and an upcaster"


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden.stem for golden in GOLDENS])
def test_golden_events_are_read_as_they_were_written(golden):
    assert tuple(event for line in golden.read_bytes().splitlines() for event in decode(line)) == EXAMPLES


@for_all(events=st.lists(st.one_of([strategy(event) for event in EVENTS]), min_size=1, max_size=4).map(tuple))
def test_what_is_written_is_read_again(events):
    assert decode(encode(events)) == events
