"""What the monitors say, over HTTP."""

from typing import Any

import msgspec
from starlette.requests import Request

from service.desk_http import Extra
from service.endpoints import json_reply
from service.monitoring import Look, Watch
from service.parameters import only_known, rfc3339
from service.problems import Reply
from service.report_replies import fresh_of


def monitor_routes(watch: Watch) -> tuple[Extra, ...]:
    """Return what the desk serves of *watch*."""

    async def monitors(request: Request) -> Reply:
        only_known(request.query_params, ())
        return json_reply(told(watch))

    return (Extra("/v1/monitors", "report", monitors),)


def told(watch: Watch) -> dict[str, Any]:
    """Return alarms, the looks that were taken, and what they found."""
    return {
        "alarms": [{"since": rfc3339(one.since), **msgspec.to_builtins(one.finding)} for one in watch.alarms],
        "looks": [_look(one) for one in watch.looks],
        "findings": [finding for one in watch.looks for finding in one.findings],
    }


def _look(look: Look) -> dict[str, Any]:
    return {
        "inspection": look.inspection,
        "looked_at": rfc3339(look.at),
        "every_s": look.every_s,
        "says": look.says,
        **fresh_of(look),
    }
