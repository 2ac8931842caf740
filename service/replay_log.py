"""`impledger replay-log`: a real access log through the gate, as a pixel server would have seen it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from commands.items import Status
from domain.cells import CellMap
from ml.traffic.access_log import BLANK, Blank, Malformed, Request, read_digested_log
from ml.traffic.beacons import Beacons
from ml.traffic.client import joined
from ml.traffic.delivery import JSON, Courier, Patience, Postman, Unanswered
from ml.traffic.events import Claims
from ml.traffic.http1 import Connections, Origin
from ml.traffic.shot import Minter
from ml.traffic.tally import Outcome, outcomes_of
from service.keyfiles import Keys
from service.routed import RoutedCourier
from service.router import Limits, Router
from service.router_wires import LoadWire

BATCH = 500
_TIMEOUT_S = 30.0
_DEFERRED_S = 0.1


class ReplayReport(Struct, kw_only=True):
    """
    What became of a log. Every line that is not blank is one of: impression, not an image, malformed.

    `not_delivered` are those of `not_images` that asked for an image and did not get it (404, 301, ...). `statuses`,
    `verdicts` and `reasons` count the gate's answers, one per impression. Times are epoch ms.
    """

    file: str
    lines: int = 0
    blank: int = 0
    impressions: int = 0
    not_images: int = 0
    not_delivered: int = 0
    malformed: int = 0
    first_at: int | None = None
    last_at: int | None = None
    statuses: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    resends: int = 0
    seconds: float = 0.0

    @property
    def adds_up(self) -> bool:
        """Whether every line and every answer is accounted for."""
        answers = sum(self.statuses.values())
        return self.lines == self.impressions + self.not_images + self.malformed and answers == self.impressions


class ReplayStopped(Exception):
    """The gate gave no answer, or refused a whole request; `report` has what was done before."""

    def __init__(self, report: ReplayReport, why: str) -> None:
        super().__init__(why)
        self.report = report


class ReplaySettings(Struct, frozen=True, kw_only=True):
    """
    *site* names the advertiser and starts every campaign's name; the same log under another site is other events.

    With *cells* every event goes to its cell by the first epoch, so that a replay after the map grew finds its streams.
    """

    gate_url: str
    keys: Keys
    region: str
    site: str = "site"
    cells: CellMap | None = None
    give_up_after_s: float = 60.0
    """How long one batch is sent again until the replay stops."""


async def replay_log(
    path: Path, settings: ReplaySettings, progress: Callable[[ReplayReport], None] | None = None
) -> ReplayReport:
    """
    Send what *path* says to the gate, in order, a batch at a time; tell *progress* after each.

    Replaying the same lines again sends the same events, which get their first answers again, also once the log has
    grown.

    Raises:
        LogUnreadable: the log cannot be read, or not to its end; what was read before is sent.
        ReplayStopped: the gate did not answer, or refused a request as a whole.
    """
    report = ReplayReport(file=str(path))
    beacons = Beacons(_minter(settings), settings.site)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        postman = await _courier(settings, stack)
        for batch in _batches(path, beacons, report):
            for outcome in await _settled(postman, batch, settings, report):
                _count(outcome, report)
            report.resends, report.seconds = postman.resends, time.monotonic() - began
            if progress is not None:
                progress(report)
    report.seconds = time.monotonic() - began
    return report


def _batches(path: Path, beacons: Beacons, report: ReplayReport) -> Iterator[list[Claims]]:
    """Yield the log's beacons, counting its lines in *report*; the lines of a batch are counted when it is."""
    batch: list[Claims] = []
    for line, digest in read_digested_log(path):
        report.lines += line is not BLANK
        match line:
            case Blank():
                report.blank += 1
            case Malformed():
                report.malformed += 1
            case Request(is_image=True, is_delivered=True):
                report.impressions += 1
                report.first_at = line.at if report.first_at is None else min(report.first_at, line.at)
                report.last_at = line.at if report.last_at is None else max(report.last_at, line.at)
                batch.append(beacons.beacon(line, digest))
            case Request():
                report.not_images += 1
                report.not_delivered += line.is_image
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _courier(settings: ReplaySettings, stack: AsyncExitStack) -> Courier:
    if settings.cells is not None:
        wire = await stack.enter_async_context(
            LoadWire(lambda _: settings.keys.operator, connections=1, try_s=_TIMEOUT_S)
        )
        limits = Limits(deadline_s=settings.give_up_after_s, try_s=_TIMEOUT_S)
        return RoutedCourier(Router(settings.cells, wire, limits=limits))
    connections = Connections(Origin.of(settings.gate_url), size=1, timeout_s=_TIMEOUT_S)
    await stack.enter_async_context(connections)
    return Postman(connections, settings.keys.operator, patience=Patience())


async def _settled(
    postman: Courier, batch: list[Claims], settings: ReplaySettings, report: ReplayReport
) -> list[Outcome]:
    """Return the outcomes of *batch*; what the gate defers, for it has no key of its day yet, is sent again."""
    outcomes = await _send(postman, batch, settings, report)
    give_up_at = time.monotonic() + settings.give_up_after_s
    while time.monotonic() < give_up_at:
        later = [at for at, outcome in enumerate(outcomes) if outcome.status == Status.DEFERRED]
        if not later:
            break
        await asyncio.sleep(_DEFERRED_S)
        again = await _send(postman, [batch[at] for at in later], settings, report)
        for at, outcome in zip(later, again, strict=True):
            outcomes[at] = outcome
    return outcomes


async def _send(postman: Courier, batch: list[Claims], settings: ReplaySettings, report: ReplayReport) -> list[Outcome]:
    body = joined([msgspec.json.encode(claims) for claims in batch], JSON)
    give_up_at = asyncio.get_running_loop().time() + settings.give_up_after_s
    try:
        response = await postman.deliver(JSON, lambda _: body, lambda: give_up_at, lambda _: None)
    except Unanswered as error:
        raise ReplayStopped(report, f"{settings.gate_url} gave no answer for {settings.give_up_after_s:g} s") from error
    outcomes = outcomes_of(response, JSON, single=False, expected=len(batch))
    if outcomes is None:
        raise ReplayStopped(report, f"{settings.gate_url} refused a batch as a whole, with HTTP {response.status}")
    return outcomes


def _count(outcome: Outcome, report: ReplayReport) -> None:
    for counts, name in (
        (report.statuses, outcome.status),
        (report.verdicts, outcome.verdict),
        (report.reasons, outcome.reason),
    ):
        if name is not None:
            counts[name] = counts.get(name, 0) + 1


def _minter(settings: ReplaySettings) -> Minter:
    keys = settings.keys
    return Minter(keys.mint_with, keys.token_keys()[keys.mint_with], keys.shard, settings.region)
