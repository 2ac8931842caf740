"""Which local day of an account a moment belongs to."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from commands.account_days import AccountDays, Calendars


def ms(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1_000)


def day_number(*date):
    return (datetime(*date, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days


@pytest.mark.parametrize(
    ("zone", "last", "day"),
    [
        ("Europe/Berlin", (2026, 3, 28, 22, 59, 59), (2026, 3, 28)),
        ("Europe/Berlin", (2026, 3, 29, 21, 59, 59), (2026, 3, 29)),
        ("Europe/Berlin", (2026, 10, 25, 22, 59, 59), (2026, 10, 25)),
        ("America/St_Johns", (2026, 7, 2, 2, 29, 59), (2026, 7, 1)),
        ("Asia/Kathmandu", (2026, 7, 1, 18, 14, 59), (2026, 7, 1)),
        ("Australia/Lord_Howe", (2026, 1, 15, 12, 59, 59), (2026, 1, 15)),
        ("Pacific/Kiritimati", (2026, 7, 1, 9, 59, 59), (2026, 7, 1)),
        ("UTC", (2026, 7, 1, 23, 59, 59), (2026, 7, 1)),
    ],
)
def test_a_day_ends_at_local_midnight(zone, last, day):
    days = AccountDays(zone)
    assert days.day(ms(*last) + 999) == day_number(*day)
    assert days.day(ms(*last) + 1_000) == day_number(*day) + 1


@for_all(
    zone=st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo"]
    ),
    at=st.integers(ms(2020, 1, 1), ms(2040, 1, 1)),
)
def test_it_is_what_the_calendar_says(zone, at):
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))
    calendars = Calendars()
    expected = (local.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    assert calendars.day(zone, at) == calendars.day(zone, at) == expected


def test_memory_is_bounded():
    days = AccountDays("Europe/Berlin")
    for quarter in range(10_000):
        days.day(quarter * 900_000)
    assert len(days.seen) <= 4_096


def test_there_is_no_such_zone():
    with pytest.raises(ZoneInfoNotFoundError):
        Calendars().day("Europe/Nowhere", 0)
