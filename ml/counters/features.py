"""What the counters say of a render: named columns, each value with a status."""

from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Column(StrEnum):
    """
    Counts of renders up to and with this one, at its own time; the gap to the render before in ms.

    Each is of the window's current bucket and those before it: 10 s is the current ten seconds, a minute six of them,
    an hour 60 minutes, a day 24 hours. A variation is the standard deviation of the last 16 gaps over their mean.
    """

    DEVICE_10S = "device_10s"
    DEVICE_MIN = "device_min"
    DEVICE_HOUR = "device_hour"
    DEVICE_DAY = "device_day"
    DEVICE_GAP_MS = "device_gap_ms"
    DEVICE_GAP_VARIATION = "device_gap_variation"
    PERSON_10S = "person_10s"
    PERSON_MIN = "person_min"
    PERSON_HOUR = "person_hour"
    PERSON_DAY = "person_day"
    PERSON_GAP_MS = "person_gap_ms"
    PERSON_GAP_VARIATION = "person_gap_variation"
    NETWORK_10S = "network_10s"
    NETWORK_MIN = "network_min"
    NETWORK_HOUR = "network_hour"
    NETWORK_DAY = "network_day"
    PLACEMENT_10S = "placement_10s"
    PLACEMENT_MIN = "placement_min"
    PLACEMENT_HOUR = "placement_hour"
    PLACEMENT_DAY = "placement_day"
    DEVICE_CREATIVE_HOUR = "device_creative_hour"
    DEVICE_USERS_HOUR = "device_users_hour"
    DEVICE_ADS_MIN = "device_ads_min"
    NETWORK_DEVICES_HOUR = "network_devices_hour"
    USER_MIN = "user_min"
    USER_HOUR = "user_hour"


class Status(IntEnum):
    """
    How far a value is to be trusted. No value is ever too high.

    `COLD`: the window was not watched whole (a restart, an evicted key, a render that came out of order), so it may be
    too low. `AT_LEAST`: a bound was reached. `MISSING`: the render names no such key, or there is no such value.
    """

    FRESH = 0
    COLD = 1
    AT_LEAST = 2
    MISSING = 3


FEATURES = tuple(Column)
PLACE = {column: at for at, column in enumerate(FEATURES)}
STATUS_LETTERS = "fc+-"
"""By status, for `ImpressionScored.feature_status`."""


class Features(NamedTuple):
    """`values` (renders, features) with NaN where nothing is known, and the `status` of each."""

    values: NDArray[np.float64]
    status: NDArray[np.uint8]

    def column(self, column: Column) -> NDArray[np.float64]:
        return self.values[:, PLACE[column]]
