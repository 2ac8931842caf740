"""`impledger replay-log`: replays a log on the running machine, or on one started for it, and checks the books."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from domain.vocabulary import DataSet
from service.books import Books, check_books
from service.cell_maps import load_cell_map
from service.folders import lock_holder
from service.keyfiles import load_or_make_keys
from service.replay_log import ReplayReport, ReplaySettings, replay_log
from service.settings import EMBEDDED, Settings
from service.stage import stage


class Replay(Struct, frozen=True, kw_only=True):
    """
    What became of the log, and what the desk then has of all replayed data.

    `lines` = `impressions` + `not_images` + `malformed`.
    """

    file: str
    lines: int
    blank: int
    impressions: int
    not_images: int
    not_delivered: int
    malformed: int
    first_at: int | None
    last_at: int | None
    statuses: dict[str, int]
    verdicts: dict[str, int]
    reasons: dict[str, int]
    gross: int
    net: int
    givt: int
    sivt: int
    undecided: int
    seconds: float
    invariants: dict[str, bool]
    problems: list[str]

    @property
    def holds(self) -> bool:
        return all(self.invariants.values()) and not self.problems


def replay(settings: Settings, path: Path, *, site: str, tell: Callable[[str], None]) -> Replay:
    """
    Send the log at *path* through the gate, wait until the desk has shown it, and check the books.

    Raises:
        LauncherError: the machine cannot be started.
        ReplayStopped: the gate did not answer, or refused a request.
        LogUnreadable: the log cannot be read, or not to its end.
    """
    with ExitStack() as stack:
        if settings.ledger_url == EMBEDDED and lock_holder(settings.data_dir) is None:
            tell("nothing runs here yet: starting PostgreSQL, Valkey, gate, desk, work and scheduler for the replay")
            stack.enter_context(stage(settings, keep=True))
        keys = load_or_make_keys(settings.data_dir)
        url = f"http://{settings.host}:{settings.gate_port}"
        cells = load_cell_map(Path(settings.cell_map)) if settings.cell_map else None
        sending = ReplaySettings(gate_url=url, keys=keys, region=settings.region, site=site, cells=cells)

        async def run() -> tuple[ReplayReport, Books]:
            report = await replay_log(path, sending, lambda so_far: tell(f"{so_far.lines} lines"))
            tell("waiting until the desk has shown everything, then checking the books")
            return report, await check_books(settings, data_set=DataSet.REPLAY)

        report, books = asyncio.run(run())
    return _joined(report, books)


def _joined(report: ReplayReport, books: Books) -> Replay:
    answered = sum(report.statuses.values())
    unkept = [] if report.adds_up else [f"I1: {report.lines} lines, {report.impressions} sent, {answered} answered"]
    is_log = report.malformed < report.lines or not report.lines
    unread = [] if is_log else [f"no line of {report.file} is one of an access log in combined format (Apache, nginx)"]
    return Replay(
        file=report.file,
        lines=report.lines,
        blank=report.blank,
        impressions=report.impressions,
        not_images=report.not_images,
        not_delivered=report.not_delivered,
        malformed=report.malformed,
        first_at=report.first_at,
        last_at=report.last_at,
        statuses=report.statuses,
        verdicts=report.verdicts,
        reasons=report.reasons,
        gross=books.gross,
        net=books.net,
        givt=books.givt,
        sivt=books.sivt,
        undecided=books.undecided,
        seconds=round(report.seconds, 3),
        invariants={"I1": not unkept, **books.invariants},
        problems=unread + unkept + books.problems,
    )
