"""
Rates and rhythm: which activity no person reaches, and which speaks against one.

All rules read what is known of the *person*, the user where one is named, else the device: a person's renders meet in
one worker, so the verdicts are the same with 1 and with 4. What others do at the same address says nothing about a
person: an office or a carrier's NAT is no abuser, however many sit behind it.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from domain.signals import Family, Signal

Count: TypeAlias = Annotated[int, Meta(ge=1)]


class Activity(Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """
    What the counters know of one render's person, device and network; the render itself is counted.

    Counts are never too high, and None where the render names no such key. A variation (standard deviation of the
    last 16 gaps over their mean) is None unless all 16 are known. `network_devices_hour` is None unless it is exact.
    `auto_refresh`: a timer asked for the ad, so an even rhythm is its own.
    """

    person_10s: int | None = None
    person_min: int | None = None
    person_hour: int | None = None
    person_gap_variation: float | None = None
    device_10s: int | None = None
    device_min: int | None = None
    device_hour: int | None = None
    network_hour: int | None = None
    network_devices_hour: int | None = None
    auto_refresh: bool = False


class RateLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Renders per window; what is over one of them is over the limits."""

    per_10s: Count
    per_min: Count
    per_hour: Count


class NetworkShare(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Renders per distinct device of a network in an hour, where at least so many devices are known, each named."""

    per_device_hour: Count
    devices_min: Count


class RateRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The thresholds. `abusive` is what no person reaches, `unusual` what hardly one does.

    `device` and `network` read keys whose renders several workers share: with more than one worker per cell their
    verdicts depend on who sees what, so a pack for such a cell leaves them out.
    """

    abusive: RateLimits
    unusual: RateLimits
    even_gap_variation: Annotated[float, Meta(gt=0, lt=1)]
    device: RateLimits | None = None
    network: NetworkShare | None = None

    def __post_init__(self) -> None:
        for name in RateLimits.__struct_fields__:
            if getattr(self.unusual, name) > getattr(self.abusive, name):
                raise ValueError(f"unusual.{name} is over abusive.{name}")


def is_abusive(activity: Activity, rules: RateRules) -> bool:
    """Tell whether `RATE_ABUSIVE` holds. The rate of a network alone never makes it so."""
    a, limits = activity, rules.abusive
    return (
        _over(a.person_10s, limits.per_10s)
        or _over(a.person_min, limits.per_min)
        or _over(a.person_hour, limits.per_hour)
        or (rules.device is not None and _device_over(a, rules.device))
        or (rules.network is not None and _share_over(a, rules.network))
    )


def signals(activity: Activity, rules: RateRules) -> tuple[Signal, ...]:
    """Return what speaks against the render, of the families rate and sequence: at most one of each."""
    found = []
    for name, value, limit in (
        ("person_10s", activity.person_10s, rules.unusual.per_10s),
        ("person_min", activity.person_min, rules.unusual.per_min),
        ("person_hour", activity.person_hour, rules.unusual.per_hour),
    ):
        if value is not None and value > limit:
            found.append(Signal(Family.RATE, name, value, limit))
            break
    variation = activity.person_gap_variation
    if variation is not None and variation < rules.even_gap_variation and not activity.auto_refresh:
        found.append(Signal(Family.SEQUENCE, "person_gap_variation", variation, rules.even_gap_variation))
    return tuple(found)


def _over(count: int | None, limit: int) -> bool:
    return count is not None and count > limit


def _device_over(activity: Activity, limits: RateLimits) -> bool:
    return (
        _over(activity.device_10s, limits.per_10s)
        or _over(activity.device_min, limits.per_min)
        or _over(activity.device_hour, limits.per_hour)
    )


def _share_over(activity: Activity, share: NetworkShare) -> bool:
    devices = activity.network_devices_hour
    if devices is None or devices < share.devices_min:
        return False
    return _over(activity.network_hour, devices * share.per_device_hour)
