"""
A whole gate in memory that decides generated traffic in the traffic's own time: hours in minutes, always the same.

Training and evaluation need commits whose every feature and verdict is what a gate would have made. So this is one:
intake, lists, counters, rules and scoring of the real gate, over a ledger in memory.
"""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from random import Random

from msgspec import Struct

from commands.activity import Activity
from commands.clocks import DeviceClocks
from commands.holding_memory import MemoryDayKeys, MemoryHolding
from commands.ingest import Ingest
from commands.intake import Intake
from commands.items import Caller, Item
from commands.keyring import DAY_MS, KEY_BYTES, Keyring
from commands.quarantine import Holding, sent_by
from domain.ids import day_of
from domain.pack import Pack
from domain.token import TokenKey
from domain.vocabulary import DataSet
from ledger.memory import MemoryStore
from ml.lists.live import LiveLists
from ml.traffic.events import Sending
from ml.traffic.shot import Minter

REGION = "eu"
_UPLOAD_LOG_MS, _UPLOAD_SPREAD = 4.0, 0.8
"""An event is 55 ms on its way, four of five 20 to 150."""
_BATCH = 128
_DAYS_BACK, _DAYS_AHEAD = 16, 2
_KEEP_MS = 3_600_000
_RECENT_MAX = 262_144
_UNPARK_EVERY = 64
_UNPARK_MAX = 500
_SCOPES = frozenset({"ingest", "decide"})


class RehearsalKeys(Struct, frozen=True):
    """Keys that follow from a seed. They protect nothing: what is generated is nobody's."""

    seed: int

    def minter(self) -> Minter:
        return Minter("k1", self.token(), self.of("shard"), REGION)

    def token(self) -> TokenKey:
        return TokenKey(self.of("signing"), self.of("price"))

    def of(self, purpose: str) -> bytes:
        return blake2b(purpose.encode(), key=self.seed.to_bytes(16), digest_size=KEY_BYTES).digest()


class Rehearsal:
    """
    One gate. *activity* is what its counters say; `store` has its ledger.

    What delivery mints has to be minted by `keys`.
    """

    def __init__(self, keys: RehearsalKeys, pack: Pack, lists: LiveLists, activity: Activity) -> None:
        self.store = MemoryStore()
        self._keys = keys
        self._now = 0
        self._keyring = Keyring(MemoryDayKeys(), keys.of("root"))
        self._random = Random(keys.seed)  # noqa: S311 (seeded, on purpose predictable)
        self._holding = Holding(MemoryHolding(self.store), self._keyring, _KEEP_MS, lambda: self._now)
        self._intake = Intake(
            pack=pack,
            region=REGION,
            token_keys={"k1": keys.token()},
            keyring=self._keyring,
            lists=lists,
            clocks=DeviceClocks(_RECENT_MAX),
            store=self.store,
            clock=lambda: self._now,
            devices=lists,
        )
        self._ingest = Ingest(
            store=self.store,
            pack=pack,
            activity=activity,
            funds=None,
            holding=self._holding,
            recent_max=_RECENT_MAX,
            name="rehearsal",
            clock=lambda: self._now,
        )

    async def play(self, sendings: Iterable[Sending], progress: Callable[[int], None] | None = None) -> int:
        """Decide *sendings*, which come in order of time; return how many there were."""
        items: list[Item] = []
        played = batches = 0
        for sending in sendings:
            if not played:
                await self._open(sending.at_ms)
            self._now = self._arrives(sending.at_ms)
            caller = Caller(_SCOPES, received_at=self._now)
            body = sending.event.body(sending.at_ms, sending.attempt)
            items += sent_by(caller, await self._intake.prepare([body], caller))
            played += 1
            if len(items) >= _BATCH:
                await self._ingest.decide_batch(items)
                items, batches = [], batches + 1
                if batches % _UNPARK_EVERY == 0:
                    await self._unpark()
                    if progress is not None:
                        progress(played)
        if items:
            await self._ingest.decide_batch(items)
        await self._unpark()
        return played

    async def _open(self, start_ms: int) -> None:
        """Days and their keys exist before anything arrives, as a gate's upkeep sees to."""
        day = start_ms // DAY_MS
        days = range(day - _DAYS_BACK, day + _DAYS_AHEAD + 1)
        await self.store.prepare_days(day_of(days[0] * DAY_MS), day_of(days[-1] * DAY_MS), DataSet.LIVE)
        await self._keyring.ensure(days, start_ms, self._keys.of("days"))

    async def _unpark(self) -> None:
        """Apply views that came before their render, as the gate does every other second."""
        due = await self._holding.due_views(_UNPARK_MAX, self._now)
        for event_id, received_at, body in due:
            caller = Caller(frozenset({"ingest", "replay"}), received_at=received_at)
            await self._ingest.decide_batch(await self._intake.prepare([body], caller))
            await self._holding.unpark([event_id])

    def _arrives(self, sent_at: int) -> int:
        return sent_at + int(self._random.lognormvariate(_UPLOAD_LOG_MS, _UPLOAD_SPREAD))
