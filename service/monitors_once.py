"""One look of every inspection of what models decide, from outside of the desk."""

from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from ledger.postgres_connection import PostgresConnection
from projections.checkpoints_postgres import PostgresCheckpoints
from service.clock import now_ms
from service.monitoring import Watch
from service.monitors_http import told
from service.monitors_model import DecisionInspection, LabelInspection, sources
from service.monitors_skew import SkewInspection
from service.parameters import rfc3339
from service.settings import Settings
from service.wiring import database_url, open_store

_CHUNKS = 20
_DEADLINE_S = 30.0


async def look_once(settings: Settings, commits: int) -> dict[str, Any]:
    """
    Return what `GET /v1/monitors` would, of the last *commits* of the ledger: `alarms` are what was found in this look.

    `skew` has every feature that a replay computes otherwise.

    Raises:
        ProjectionError, LedgerError: tables or ledger did not answer.
    """
    database = database_url(settings)
    store, checkpoints = open_store(settings), PostgresCheckpoints(database)
    registry = PostgresConnection(database, _DEADLINE_S)
    try:
        read = sources(store, checkpoints.position_at, registry)
        skew = SkewInspection(store, now_ms, every_s=1, sample=commits)
        decisions = DecisionInspection(read, every_s=1, window_s=3_600, sample=commits, chunks=_CHUNKS)
        watch = Watch([decisions, LabelInspection(read, every_s=1), skew], CollectorRegistry(), now_ms)
        looks = await watch.look()
    finally:
        for opened in (registry, checkpoints, store):
            await opened.close()
    found = [
        {"since": rfc3339(look.at), **msgspec.to_builtins(one)} for look in looks for one in look.findings if one.found
    ]
    apart = [] if skew.last is None else [one for one in skew.last.features if one.unequal]
    answer: dict[str, Any] = msgspec.to_builtins({**told(watch), "skew": apart})
    return answer | {"alarms": found}
