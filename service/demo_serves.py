"""What the demo shows of served ads: how much of them rendered, and which SDK versions the monitors name."""

import asyncio
from dataclasses import replace

from msgspec import Struct

from ml.monitors.checks import CLIENT_CHECKS
from service.asking import ask
from service.settings import Settings

SERVE_TTL_S = "15"
SESSION_IDLE_S = 8
MONITOR_EVERY_S = 4
_LOOKS_WITHIN_S = 2 * MONITOR_EVERY_S + 2
"""An alarm starts at the second look."""


class Served(Struct, frozen=True, kw_only=True):
    """`served` + `unreported` = `rendered` + `not_counted` + `in_flight` + `lost`; an alarm has check, surface, SDK."""

    served: int
    rendered: int
    not_counted: int
    in_flight: int
    lost: int
    unreported: int
    loss_rate: float | None
    reports: int
    reports_missing: int
    alarms: list[str]
    model_alarms: int = 0
    """A model from generated traffic of other days has some: its training was unlike this run."""


def in_short_times(settings: Settings) -> Settings:
    """Return *settings* for a run of a minute, in which nobody can wait ten minutes for an ad to render."""
    return replace(settings, serve_ttl_s=SERVE_TTL_S, session_idle_s=SESSION_IDLE_S, monitor_every_s=MONITOR_EVERY_S)


async def served_of(settings: Settings) -> Served:
    """
    Ask the desk, once its monitors have looked at everything.

    Raises:
        AskedInVain: it does not answer.
    """
    await asyncio.sleep(_LOOKS_WITHIN_S)
    completeness = await asyncio.to_thread(ask, settings, "/v1/completeness", {})
    monitors = await asyncio.to_thread(ask, settings, "/v1/monitors", {})
    [row] = completeness["rows"]
    of_clients = [one for one in monitors["alarms"] if one["check"] in CLIENT_CHECKS]
    names = ("served", "rendered", "not_counted", "in_flight", "lost", "unreported", "loss_rate")
    return Served(
        **{name: row[name] for name in names},
        reports=completeness["reports"],
        reports_missing=completeness["reports_missing"],
        alarms=[f"{one['check']} {one['surface']} {one['subject']}" for one in of_clients],
        model_alarms=len(monitors["alarms"]) - len(of_clients),
    )
