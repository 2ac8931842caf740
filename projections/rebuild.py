"""
The tables made again from the ledger, beside those that are read, and put in their place in one transaction.

A new generation has tables and a checkpoint of its own, so a block that is retried during the switch counts in the
tables it was for. Readers take the generation with each question and never wait.
"""

from functools import partial

from msgspec import Struct
from prometheus_client import CollectorRegistry

from projections.engine import Client, Clients
from projections.errors import LeaseLost, ProjectionError
from projections.projector import Metrics, Ports, Projector
from projections.schema import migrate

ROUNDS_MAX = 100
"""How often the new generation may fall behind again before it is given up."""

_DIGEST = "SELECT count(), sum(cityHash64(*)) FROM facts_{generation:d} WHERE position <= {position:d}"


class RebuildDiffers(ProjectionError):
    """The new tables have other facts than the old ones; nothing was switched."""


class Rebuilt(Struct, frozen=True):
    """Which generation is read from now on, instead of which; the facts of both were compared up to `position`."""

    generation: int
    instead_of: int
    position: int


async def rebuild(ports: Ports, clients: Clients, holder: str, *, may_differ: bool = False) -> Rebuilt:
    """
    Fill a new generation, compare its facts with the active one's, and switch.

    *holder* is the name under which this process projects. The old tables stay, for answers under way; `schema.drop`
    removes them. *may_differ* is for a rebuild after what rows are made of has changed.

    Raises:
        RebuildDiffers: the facts are not the same.
        LeaseLost: another process projects, or the ledger grows faster than this catches up.
        ProjectionError, LedgerError: something did not answer; begin again, the work done so far is kept.
    """
    active = (await ports.checkpoints.known()).generation
    shadow = active + 1
    await clients.run(lambda client: migrate(client, shadow))
    projector = Projector(ports, holder, Metrics(CollectorRegistry()), generation=shadow)
    lease = await ports.checkpoints.lease(holder, projector.pace.lease_ttl_ms)
    if lease is None:
        raise LeaseLost("another process projects; only it can rebuild")
    for _ in range(ROUNDS_MAX):
        while await projector.step():
            continue
        position = min((await ports.checkpoints.known()).position, (await ports.checkpoints.progress(shadow)).done)
        same = await clients.run(partial(_same, one=active, other=shadow, position=position))
        if not (same or may_differ):
            raise RebuildDiffers(f"generations {active} and {shadow} differ up to position {position}")
        try:
            await ports.checkpoints.activate(lease, shadow)
        except LeaseLost:  # the active one went on meanwhile
            continue
        return Rebuilt(shadow, active, position)
    raise LeaseLost(f"generation {shadow} did not catch up in {ROUNDS_MAX} rounds")


def _same(client: Client, one: int, other: int, position: int) -> bool:
    first, second = (
        client.query(_DIGEST.format(generation=generation, position=position)).result_rows
        for generation in (one, other)
    )
    return bool(first == second)
