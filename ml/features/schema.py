"""The features of a render, in order of their columns: what each is, where it comes from, what its absence means."""

from enum import StrEnum
from hashlib import sha256

import msgspec
from msgspec import Struct

from domain.signals import Family


class Group(StrEnum):
    """What goes missing together. `GEOMETRY` is what a client measures; what it knows anyway is of `SDK`."""

    TOKEN = "token"  # noqa: S105 (what the signed token says)
    AGENT = "agent"
    NETWORK = "network"
    FINGERPRINT = "fingerprint"
    SDK = "sdk"
    GEOMETRY = "geometry"
    TIME = "time"
    COUNTERS = "counters"
    """Of a person, whose renders meet in one worker: the same with 1 worker and with 4."""
    SHARED = "shared"
    """Of a device or network, whose renders several workers may share."""
    ASYNC = "async"


class Availability(StrEnum):
    SYNC = "sync"
    """Known from the render itself."""
    NEAR = "near"
    """From counters in the gate's memory."""
    ASYNC = "async"
    """Arrives by itself; the last known value is read."""


class Feature(Struct, frozen=True):
    """
    One column. *family*: the signals that it corroborates by itself (semantics 11 of the design), None for context.

    *window_s* is the time that it looks back on; *missing* says when it is NaN and what that means. *rises*: more of it
    speaks against a render, or not at all.
    """

    name: str
    unit: str
    source: str
    group: Group
    missing: str
    family: Family | None = None
    window_s: int | None = None
    rises: bool = False

    @property
    def availability(self) -> Availability:
        return _AVAILABILITY.get(self.group, Availability.SYNC)


_AVAILABILITY = {
    Group.COUNTERS: Availability.NEAR,
    Group.SHARED: Availability.NEAR,
    Group.ASYNC: Availability.ASYNC,
}
_NEVER = "never"
_UNTOLD = "the client does not say"
_UNMEASURED = "the client did not measure it, or not all of this group"
_NOBODY = "the render names nobody, or the window was not watched whole"
_UNKNOWN_KEY = "the render names none, the window was not watched whole, or several workers share the cell"
_NO_HISTORY = "nothing is known of the publisher yet"


def _person(name: str, source: str, window_s: int) -> Feature:
    return Feature(name, "count", source, Group.COUNTERS, _NOBODY, Family.RATE, window_s, rises=True)


def _gap(name: str, unit: str, source: str) -> Feature:
    return Feature(name, unit, source, Group.COUNTERS, _NOBODY, Family.SEQUENCE)


def _shared(name: str, family: Family, source: str, window_s: int) -> Feature:
    return Feature(name, "count", source, Group.SHARED, _UNKNOWN_KEY, family, window_s, rises=True)


def _history(name: str, unit: str, source: str, *, rises: bool = True) -> Feature:
    return Feature(name, unit, source, Group.ASYNC, _NO_HISTORY, rises=rises)


SCHEMA: tuple[Feature, ...] = (
    Feature("surface", "code", "token", Group.TOKEN, _NEVER),
    Feature("is_video", "flag", "token", Group.TOKEN, _NEVER),
    Feature("agent_class", "code", "lists, by the agent", Group.AGENT, "no agent is named", Family.AGENT),
    Feature("agent_age_days", "days", "release of the agent's version", Group.AGENT, "unknown version", Family.AGENT),
    Feature("network_class", "code", "lists, by the address", Group.NETWORK, "no address is named", Family.NETWORK),
    Feature(
        "fingerprint_inconsistencies",
        "count",
        "agent, client hints, platform and screen compared",
        Group.FINGERPRINT,
        "the client does not describe itself",
        Family.FINGERPRINT,
        rises=True,
    ),
    Feature("sdk_age_days", "days", "release of the SDK's version", Group.SDK, "unknown version"),
    Feature("omid_strength", "rank", "OMID's impression type", Group.SDK, _UNTOLD),
    Feature("prefetched", "flag", "client", Group.SDK, _NEVER),
    Feature("background", "flag", "client", Group.SDK, _NEVER),
    Feature("auto_refresh", "flag", "client", Group.SDK, _NEVER),
    Feature("clicked", "flag", "client", Group.SDK, _NEVER),
    Feature("absent_fields", "count", "fields that a client may fill and did not", Group.SDK, _NEVER),
    Feature("area_px", "px", "width times height", Group.SDK, _UNTOLD, Family.GEOMETRY),
    Feature("stack_depth", "count", "ads in its place", Group.SDK, _UNTOLD, Family.GEOMETRY, rises=True),
    Feature("visible_ratio", "ratio", "client", Group.GEOMETRY, _UNMEASURED, Family.GEOMETRY),
    Feature("visible_ms", "ms", "client", Group.GEOMETRY, _UNMEASURED, Family.GEOMETRY),
    Feature(
        "visible_excess_ms",
        "ms",
        "visible time over the time since it was served",
        Group.GEOMETRY,
        _UNMEASURED,
        Family.GEOMETRY,
        rises=True,
    ),
    Feature("serve_to_render_ms", "ms", "event time - served", Group.TIME, _NEVER),
    Feature("render_to_receipt_ms", "ms", "received - event time", Group.TIME, _NEVER),
    Feature("upload_wait_ms", "ms", "sent - event, by the client's clock", Group.TIME, _UNTOLD),
    Feature("begin_wait_ms", "ms", "on screen - event, by the client's clock", Group.TIME, _UNTOLD),
    Feature("skew_ms", "ms", "event time outside of served to received", Group.TIME, _NEVER),
    _person("person_10s", "renders of the person", 10),
    _person("person_min", "renders of the person", 60),
    _person("person_hour", "renders of the person", 3_600),
    _gap("person_gap_ms", "ms", "time since the person's render before"),
    _gap("person_gap_variation", "ratio", "standard deviation of the person's last 16 gaps / their mean"),
    _shared("device_min", Family.RATE, "renders of the device", 60),
    _shared("device_hour", Family.RATE, "renders of the device", 3_600),
    _shared("device_users_hour", Family.RATE, "users of the device", 3_600),
    _shared("device_creative_hour", Family.RATE, "renders of the creative on the device", 3_600),
    _shared("device_ads_min", Family.RATE, "ads on the device", 60),
    _shared("network_hour", Family.NETWORK, "renders of the network", 3_600),
    _shared("network_devices_hour", Family.NETWORK, "devices of the network", 3_600),
    _history("publisher_duplicate_rate", "ratio", "repeats / renders of the publisher"),
    _history("publisher_invisible_share", "ratio", "invisible / measured of the publisher"),
    _history("publisher_click_z", "deviations", "click rate against its peers'", rises=False),
)
"""In order of columns."""

SHARED_TABLES = frozenset({"devices", "networks", "device_creatives", "device_users", "device_ads", "network_devices"})
"""Tables of counters that the features of `Group.SHARED` need beside that of people."""

RISING: tuple[int, ...] = tuple(column for column, feature in enumerate(SCHEMA) if feature.rises)
"""The columns of which more speaks against a render, or not at all."""

PLACE: dict[str, int] = {feature.name: column for column, feature in enumerate(SCHEMA)}


def schema_id(schema: tuple[Feature, ...]) -> str:
    """Return the id of *schema*. Words may be put better; a feature that changes its meaning gets another name."""
    facts = [(one.name, one.unit, one.group, one.family, one.window_s) for one in schema]
    return f"features-{sha256(msgspec.json.encode(facts)).hexdigest()[:8]}"


SCHEMA_ID = schema_id(SCHEMA)


def columns_of(group: Group) -> tuple[int, ...]:
    """Return the columns of *group*, in order."""
    return tuple(column for column, feature in enumerate(SCHEMA) if feature.group is group)


def columns_of_family(family: Family, schema: tuple[Feature, ...] = SCHEMA) -> tuple[int, ...]:
    """Return the columns of *schema* that speak for *family*, in order."""
    return tuple(column for column, feature in enumerate(schema) if feature.family is family)
