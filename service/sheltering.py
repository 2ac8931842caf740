"""Sheltering as one gate does it: what it takes in for other regions, whom it watches, what it brings them back."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.homes import Homes
from commands.intake import Intake
from commands.items import Answer, Item
from commands.sealed_box import keys_by_id
from commands.shelter import Shelter
from commands.shelter_arrivals import Arrivals, Fate
from commands.shelter_forward import Carrier, Forwarded, Forwarder
from commands.shelter_lookout import Lookout, Prober
from commands.shelter_orders import OrderBook, Standing
from commands.shelter_postgres import PostgresShelter
from commands.shelter_store import Counts, Room, Waiting
from commands.shelter_trust import Signer, Trust
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from service.clock import now_ms
from service.keyfiles import Keys
from service.parameters import rfc3339
from service.settings import Settings
from service.shelter_files import ShelterKeys, fingerprints, load_or_make_shelter_keys, trust_of

REFRESH_EVERY_S = 2.0
LOOK_EVERY_S = 5.0
FORWARD_EVERY_S = 2.0
COUNT_EVERY_S = 15.0
TIDY_EVERY_S = 600.0
_TAKING_DEADLINE_S, _WORKING_DEADLINE_S = 2.0, 30.0
_HOUR_MS = 3_600_000
_DROPS_MAX = 100

Work: TypeAlias = tuple[float, Callable[[], Awaitable[object]]]
"""Something to be done again so many seconds after it was done."""

log = structlog.get_logger()


class Cells(Carrier, Prober, Protocol):
    """How other cells are reached."""

    async def close(self) -> None: ...


class Sheltering(Collector):
    """
    All parts of one gate's shelter, and a collector of Prometheus. Belongs to one event loop.

    Taking renders in has a connection of its own; it never waits for forwarding or counting.
    """

    def __init__(  # noqa: PLR0913 (what it is built of)
        self,
        settings: Settings,
        keys: Keys,
        homes: Homes,
        trust: Trust,
        *,
        own: ShelterKeys,
        wires: Cells,
        database_url: str,
        registry: CollectorRegistry,
    ) -> None:
        self._taking = PostgresConnection(database_url, _TAKING_DEADLINE_S)
        self._working = PostgresConnection(database_url, _WORKING_DEADLINE_S)
        self._store = PostgresShelter(self._working)
        self._homes = homes
        self._box_keys = keys_by_id(own.sealing)
        self._wires = wires
        self.book = OrderBook(homes, trust, self._store)
        self.shelter = Shelter(
            homes=homes,
            book=self.book,
            trust=trust,
            store=PostgresShelter(self._taking),
            token_keys=keys.token_keys(),
            fingerprints=fingerprints(keys),
            room=Room(settings.shelter_events_max, settings.shelter_bytes_max),
            ttl_ms=settings.shelter_ttl_h * _HOUR_MS,
            clock=now_ms,
        )
        self.lookout = Lookout(
            homes=homes,
            trust=trust,
            signer=Signer(homes.cell.name, own.signing),
            book=self.book,
            prober=self._wires,
            clock=now_ms,
            new_id=uuid4,
        )
        self._forwarder = Forwarder(self._store, self._wires, now_ms)
        self._counts, self._failed = Counts(), dict[str, str]()
        self._forwarded = Counter(
            "impledger_shelter_forwarded", "Sheltered events by what their home said", ("fate",), registry=registry
        )
        self.arrived = Counter(
            "impledger_shelter_arrived", "Events out of other cells' shelters by fate", ("fate",), registry=registry
        )
        for counter, fate in ((counter, fate) for counter in (self._forwarded, self.arrived) for fate in Fate):
            counter.labels(fate.value)
        registry.register(self)

    def arrivals(
        self,
        *,
        intake: Intake,
        ledger: EventStore,
        submit: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        watch: Callable[[Iterable[Item]], None],
    ) -> Arrivals:
        """Return the way in, through *submit*, for what other cells have sheltered for this one."""
        return Arrivals(
            name=self._homes.cell.name,
            keys=self._box_keys,
            intake=intake,
            ledger=ledger,
            store=self._store,
            submit=submit,
            clock=now_ms,
            watch=watch,
        )

    def works(self) -> list[Work]:
        """Return what must be done again and again beside serving."""
        return [
            (REFRESH_EVERY_S, self._refresh),
            (LOOK_EVERY_S, self.lookout.look),
            (FORWARD_EVERY_S, self._forward),
            (COUNT_EVERY_S, self._count),
            (TIDY_EVERY_S, self._tidy),
        ]

    async def status(self) -> dict[str, Any]:
        """Return what is sheltered, by which order, and how other regions look; raises `LedgerUnavailable`."""
        now = now_ms()
        waiting = await self._store.waiting(now)
        counts = self._counts = await self._store.count(now)
        return {
            "cell": self._homes.cell.name,
            "region": self._homes.cell.region,
            "sheltering": sorted(self.book.regions(now)),
            "orders": [order_facts(one, now) for one in self.book.orders()],
            "regions": {region: self._seen(region) for region in sorted(self.lookout.watches)},
            "events": {
                "waiting": counts.waiting,
                "expired": counts.expired,
                "moved": counts.moved,
                "arrived": counts.arrived,
            },
            "bytes_waiting": counts.bytes_waiting,
            "homes": [self._waiting_facts(one) for one in waiting],
        }

    def collect(self) -> Iterator[Metric]:
        now = now_ms()
        left = GaugeMetricFamily(
            "impledger_shelter_order_seconds", "Seconds left of the order to shelter a region", labels=("region",)
        )
        for region in self.book.regions(now):
            order = self.book.in_force(region, now)
            left.add_metric((region,), 0.0 if order is None else (order.valid_until - now) / 1_000)
        yield left
        down = GaugeMetricFamily(
            "impledger_shelter_region_down", "1 while a region answers none of this cell's probes", labels=("region",)
        )
        for region, watch in self.lookout.watches.items():
            down.add_metric((region,), float(watch.is_down))
        yield down
        events = GaugeMetricFamily(
            "impledger_sheltered_events", "Events in the shelter's books, as of the last count", labels=("state",)
        )
        for state in ("waiting", "expired", "moved", "arrived"):
            events.add_metric((state,), float(getattr(self._counts, state)))
        yield events
        text = "Bytes that wait in the shelter, as of the last count"
        yield GaugeMetricFamily("impledger_sheltered_bytes", text, value=float(self._counts.bytes_waiting))

    async def close(self) -> None:
        for open_ in (self._taking, self._working, self._wires):
            await open_.close()

    async def _refresh(self) -> None:
        await self.book.refresh(now_ms())

    async def _forward(self) -> None:
        done = await self._forwarder.run()
        for fate in Fate:
            self._forwarded.labels(fate.value).inc(getattr(done, fate.value))
        if done.settled or (done.failed and done.failed != self._failed):
            log.info("sheltered events forwarded", **forwarded_facts(done))
        self._failed = done.failed

    async def _count(self) -> None:
        self._counts = await self._store.count(now_ms())

    async def _tidy(self) -> None:
        for _ in range(_DROPS_MAX):
            dropped = await self._store.drop_expired(now_ms())
            if dropped.bodies:
                log.error("sheltered events expired before their home took them", events=dropped.bodies)
            if dropped.is_all:
                return

    def _seen(self, region: str) -> dict[str, Any]:
        watch = self.lookout.watches[region]
        since = watch.failed_since
        return {"down": watch.is_down, "failed_since": None if since is None else rfc3339(since)}

    def _waiting_facts(self, one: Waiting) -> dict[str, Any]:
        return {
            "cell": one.home,
            "region": one.region,
            "waiting": one.events,
            "oldest_at": rfc3339(one.oldest_at),
            "failed": self._failed.get(one.home, ""),
        }


def open_sheltering(
    settings: Settings, keys: Keys, homes: Homes | None, *, database_url: str, registry: CollectorRegistry
) -> Sheltering | None:
    """
    Return the shelter that *settings* ask for, None if they do not.

    Raises:
        TrustFileError: the file of trusted keys cannot be used.
    """
    trust = trust_of(settings)
    if trust is None or homes is None:
        return None
    from service.shelter_wires import open_wires  # noqa: PLC0415 (other gates need no HTTP client)

    own = load_or_make_shelter_keys(settings.data_dir)
    wires = open_wires(homes, own.peers)
    return Sheltering(settings, keys, homes, trust, own=own, wires=wires, database_url=database_url, registry=registry)


def order_facts(one: Standing, now: int) -> dict[str, Any]:
    """Return what is told of an order; `state` is `in_force`, `to_come`, `over` or `revoked`."""
    order = one.order
    if one.revoked_at is not None:
        state = "revoked"
    elif now >= order.valid_until:
        state = "over"
    else:
        state = "in_force" if now >= order.valid_from else "to_come"
    return {
        "order_id": order.order_id,
        "region": order.region,
        "cells": order.cells,
        "ground": order.ground,
        "issuer": order.issuer,
        "state": state,
        "valid_from": rfc3339(order.valid_from),
        "valid_until": rfc3339(order.valid_until),
        "revoked_at": None if one.revoked_at is None else rfc3339(one.revoked_at),
        "reason": order.reason,
    }


def forwarded_facts(done: Forwarded) -> dict[str, Any]:
    return {**{fate.value: getattr(done, fate.value) for fate in Fate}, "failed": done.failed}
