"""A whole gate in memory with a spool on disk, a ledger that goes away on command, and a disk that fails on command."""

import asyncio
import errno
import os
from contextlib import contextmanager
from datetime import date

from gatekit import PACK, KitGate, Minter

from commands.backlog import Backlog
from commands.budget_spool import LABEL
from commands.draining import Drain
from commands.holding_memory import MemoryHolding
from commands.items import Status
from commands.redecide import Redecider
from commands.spooling import SpooledAnswers
from domain.reasons import Reason, Verdict
from domain.vocabulary import Rung
from ledger.breaker import NotAsked
from ledger.memory import MemoryStore
from ledger.spool import OsDisk, Spool
from ledger.spool_owners import own_new
from ledger.store import LedgerUnavailable


class AbsentStore(MemoryStore):
    """A ledger that is `asleep` (nobody asks it), fails `before` doing what it is asked, or `after` it did it."""

    def __init__(self):
        super().__init__()
        self.mode = ""

    async def append(self, appends, recorded_at):
        self.fail("asleep", "before")
        outcomes = await super().append(appends, recorded_at)
        self.fail("after")
        return outcomes

    async def read_streams(self, streams, limit):
        self.fail("asleep", "before", "after")
        return await super().read_streams(streams, limit)

    def fail(self, *modes):
        if self.mode in modes:
            raise (NotAsked if self.mode == "asleep" else LedgerUnavailable)(self.mode)

    @contextmanager
    def away(self, mode="asleep"):
        self.mode = mode
        yield
        self.mode = ""


class AbsentHolding(MemoryHolding):
    """Quarantine and parked views, away when the ledger is."""

    async def quarantine(self, bodies, room):
        self._store.fail("asleep", "before", "after")
        return await super().quarantine(bodies, room)

    async def park(self, views, room):
        self._store.fail("asleep", "before", "after")
        return await super().park(views, room)


class FailingDisk(OsDisk):
    """
    Fails what stands in `fails` (`write`, `sync`, `sync_folder`, `cut`); a write that fails leaves `torn` bytes.

    `free` is left.
    """

    def __init__(self):
        self.fails = set()
        self.torn = 0
        self.free = 1 << 40
        self.number = errno.EIO
        self.syncs = self.synced_folders = 0

    def write(self, file, data):
        if "write" in self.fails:
            super().write(file, data[: self.torn])
            raise OSError(self.number, "write")
        super().write(file, data)

    def sync(self, file):
        self.syncs += 1
        if "sync" in self.fails:
            raise OSError(self.number, "sync")
        super().sync(file)

    def sync_folder(self, folder):
        self.synced_folders += 1
        if "sync_folder" in self.fails:
            raise OSError(self.number, "sync_folder")
        super().sync_folder(folder)

    def cut(self, file, size):
        if "cut" in self.fails:
            raise OSError(self.number, "cut")
        super().cut(file, size)

    def free_bytes(self, folder):
        return self.free


class SpoolGate(KitGate):
    """A gate that answers while its ledger is away. A second one on the same *root* and store is another process."""

    def __init__(
        self, root, store=None, holding_store=None, day_keys=None, *, disk=None, segment_max=1 << 20, money=None, **kept
    ):
        self.root = root
        self.money = money
        self.owned = own_new(root)
        self.spool = Spool(self.owned.folder, max_bytes=64 << 20, segment_max=segment_max, disk=disk)
        store = store or AbsentStore()
        super().__init__(store, holding_store or AbsentHolding(store), day_keys, **kept)

    def restart(self, recent_max=10_000, name="eu-kit"):
        super().restart(recent_max, name)
        answers = SpooledAnswers(
            self.spool,
            keyring=self.keyring,
            pack=PACK,
            funds=self.funds,
            label=LABEL + self.owned.owner,
            answers_max=recent_max,
        )
        self.ingest._spooling = answers
        drain = Drain(
            self.store,
            self.ingest,
            activity=self.activity,
            keyring=self.keyring,
            clock=lambda: self.now,
            rest=no_rest,
        )
        self.redecider = Redecider(
            self.store,
            pack=PACK,
            slots=self.ingest.slots,
            activity=self.activity,
            funds=self.funds,
            over=self.money.over if self.money else nothing_over,
            clock=lambda: self.now,
            rest=no_rest,
        )
        self.backlog = Backlog(self.root, self.spool, self.owned, drain=drain, again=self.redecider, money=self.money)

    async def warm(self):
        """Have today's keys at hand, as a gate has."""
        day = self.now // 86_400_000
        await self.keyring.ensure([day - 1, day, day + 1], self.now, b"f" * 32)

    def die(self):
        """End as a killed process does: its locks are free, the files stay."""
        if self.spool._open is not None:
            os.close(self.spool._open.file)
            self.spool._open = None
        for owned in (self.owned, *self.backlog._orphans):
            os.close(owned._lock)


async def no_rest():
    pass


async def nothing_over(campaigns):
    return {}


def run_spool(test, tmp_path, **kept):
    """Run *test* on a gate that spools below *tmp_path*, with days before and after the kit's, and clients' events."""

    async def main():
        gate = SpoolGate(tmp_path / "spool", **kept)
        await gate.open(date(2026, 9, 10), date(2026, 9, 23))
        await gate.warm()
        await test(gate, Minter())

    asyncio.run(main())


def told(answer):
    """Return of *answer* what says how it was decided."""
    return answer.status, answer.verdict, answer.reason, answer.rung, answer.provisional


DEGRADED = (Status.DECIDED, Verdict.UNCERTAIN, Reason.DEGRADED, Rung.SPOOLED, True)
