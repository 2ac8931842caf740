"""Days of an account: which local calendar day a moment belongs to, in the account's IANA time zone."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

_EPOCH = date(1970, 1, 1).toordinal()
QUARTER_MS = 900_000
"""Since 1972 every zone's clock has been changed at a quarter of an hour of UTC, so a quarter has one day."""
_REMEMBERED_MAX = 4_096


class AccountDays:
    """The calendar of one time zone; `seen` has the day of each quarter of an hour that was asked for lately."""

    __slots__ = ("_zone", "seen")

    def __init__(self, time_zone: str) -> None:
        self._zone = ZoneInfo(time_zone)
        self.seen: dict[int, int] = {}

    def day(self, at: int) -> int:
        """Return the local day of *at* (epoch ms), counted from 1970-01-01; never 0 for a moment of this century."""
        quarter = at // QUARTER_MS
        day = self.seen.get(quarter)
        if day is None:
            if len(self.seen) >= _REMEMBERED_MAX:
                self.seen.clear()
            moment = datetime.fromtimestamp(quarter * QUARTER_MS / 1_000, UTC).astimezone(self._zone)
            day = self.seen[quarter] = moment.date().toordinal() - _EPOCH
        return day


class Calendars:
    """One calendar per time zone that is in use."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, AccountDays] = {}

    def day(self, time_zone: str, at: int) -> int:
        """Return the local day of *at* (epoch ms) in *time_zone*; raises `ZoneInfoNotFoundError` for no such zone."""
        days = self._known.get(time_zone)
        if days is None:
            days = self._known[time_zone] = AccountDays(time_zone)
        return days.seen.get(at // QUARTER_MS) or days.day(at)
