"""
The active tables, made or brought to this version before anything reads them.

Checkpoints stand elsewhere than the tables. Where the tables are gone and the checkpoints are not, every answer would
be nothing, and would say that it knows everything; so what is known is forgotten first, and projected again.
"""

from functools import partial

import structlog

from projections.checkpoints import Checkpoints, Progress
from projections.engine import Clients
from projections.errors import LeaseLost
from projections.schema import is_made, migrate

_LEASE_MS = 15_000

_log = structlog.get_logger(__name__)


async def make_tables(checkpoints: Checkpoints, clients: Clients, holder: str) -> list[str]:
    """
    Bring the active tables to this version; return the files that were applied, none if all were before.

    *holder* is the name under which this process would project.

    Raises:
        LeaseLost: the tables are gone, and another process projects.
        SchemaChanged: a file that was applied has changed since.
        TablesUnavailable, CheckpointsUnavailable: ClickHouse or PostgreSQL did not answer; do it again.
    """
    generation = (await checkpoints.known()).generation
    is_there = await clients.run(partial(is_made, generation=generation))
    if not is_there and await checkpoints.progress(generation) != Progress():
        await _forget(checkpoints, generation, holder)
    return await clients.run(partial(migrate, generation=generation))


async def _forget(checkpoints: Checkpoints, generation: int, holder: str) -> None:
    lease = await checkpoints.lease(holder, _LEASE_MS)
    if lease is None:
        raise LeaseLost("the tables are gone, and another process projects into them; stop it first")
    await checkpoints.forget(lease, generation)
    await checkpoints.release(lease)
    _log.warning("tables are gone; all of the ledger is projected again", generation=generation)
