"""What the demo shows in a terminal: a live table, and a summary that states the identities."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as LiveDisplay
from rich.styled import Styled
from rich.table import Table
from rich.text import Text

from ml.traffic.tally import Live
from service.demo import Budgets, DemoReport
from service.demo_serves import Served

_MEANING = {
    "I1": "everything that was answered is kept",
    "I2": "no impression is billed twice",
    "I3": "gross = net + givt + sivt + undecided in every cut",
    "I4": "ClickHouse has what a fold of the ledger gives, to the unit",
}


class DemoScreen:
    """Shows the run on *out* and what is being done on *err*; nothing if *is_quiet*."""

    def __init__(self, out: Console, err: Console, *, is_quiet: bool) -> None:
        self._out = out
        self._err = err
        self._is_quiet = is_quiet
        self._live: LiveDisplay | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def tell(self, text: str) -> None:
        self._end()
        if not self._is_quiet:
            self._err.print(text, style="dim")

    def show(self, live: Live, lag_s: float) -> None:
        if self._is_quiet or not self._out.is_terminal:
            return
        if self._live is None:
            self._live = LiveDisplay(console=self._out, refresh_per_second=4, transient=True)
            self._live.start()
        self._live.update(_moment(live, lag_s))

    def summary(self, report: DemoReport) -> Group:
        """Return what is printed at the end."""
        facts = Table(box=None, show_header=False, pad_edge=False)
        for name, value in _facts(report):
            facts.add_row(name, value)
        return Group(facts, Text(), *invariant_lines(report.invariants, report.problems))

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def invariant_lines(invariants: Mapping[str, bool], problems: Sequence[str]) -> list[RenderableType]:
    """Return a line for each identity, and below them what is wrong."""
    return [
        *(
            Text.assemble(("holds", "green") if good else ("FAILS", "red"), f"  {name}  {_MEANING[name]}")
            for name, good in invariants.items()
        ),
        *(Styled(problem, "red") for problem in problems),
    ]


def spelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in Counter(counts).most_common()) or "none"


def _moment(live: Live, lag_s: float) -> Table:
    table = Table(title=f"{live.elapsed_s:.0f} s, {live.answered:,} events answered")
    for heading in ("events/s", "valid", "dropped", "duplicate", "uncertain", "p50 ms", "p99 ms", "lag s"):
        table.add_column(heading, justify="right")
    counts = [f"{live.verdicts.get(verdict, 0):,}" for verdict in ("valid", "dropped", "duplicate", "uncertain")]
    table.add_row(f"{live.rate:,.0f}", *counts, f"{live.p50_ms:.1f}", f"{live.p99_ms:.1f}", f"{lag_s:.2f}")
    return table


def _served(served: Served) -> str:
    lost = f"{served.lost:,} lost" + (
        "" if served.loss_rate is None else f" ({served.loss_rate:.1%} of those whose time is over)"
    )
    said = f"{served.served:,}: {served.rendered:,} rendered, {served.not_counted:,} not counted, {lost}"
    return f"{said}, {served.in_flight:,} in flight"


def _alarms(served: Served) -> str:
    of_clients = ", ".join(served.alarms) or "no alarm"
    if not served.model_alarms:
        return of_clients
    return f"{of_clients}; {served.model_alarms:,} of the model (docs/monitors.md)"


def _budgets(budgets: Budgets) -> str:
    wrong = len(budgets.differences)
    as_told = f"{wrong:,} otherwise than the ledger" if wrong else "all as in the ledger"
    return f"{budgets.accounts:,} accounts, {as_told}; {budgets.over_budget:,} renders over budget, not billed"


def _facts(report: DemoReport) -> list[tuple[str, str]]:
    books = f"{report.gross:,} = {report.net:,} net + {report.givt:,} givt + {report.sivt:,} sivt"
    money = ", ".join(f"{micros / 1e6:,.2f} {currency}" for currency, micros in report.billable_micros.items())
    return [
        ("events", f"{report.renders:,} renders and {report.views:,} views in {report.seconds:g} s"),
        ("answered", f"{report.accepted:,} ({spelled(report.statuses)}); {report.unanswered:,} unanswered"),
        ("verdicts", spelled(report.verdicts)),
        ("reasons", spelled(report.reasons)),
        ("gross", f"{books} + {report.undecided:,} undecided"),
        ("billable", money or "nothing"),
        ("budgets", _budgets(report.budgets)),
        ("served", _served(report.served)),
        ("monitors", _alarms(report.served)),
        (
            "latency",
            (
                f"p50 {report.p50_ms:g} ms, p99 {report.p99_ms:g} ms; {report.within_50_ms:.2%} within 50 ms, "
                f"{report.within_50_ms_or_marked:.2%} with those marked"
            ),
        ),
        ("desk", f"p99 {report.lag_p99_s:g} s behind"),
    ]
