"""What was answered: counted while the traffic runs, and told at its end."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.render import Kind
from domain.vocabulary import Rung
from ml.traffic.delivery import NDJSON
from ml.traffic.events import Answer, Event, Sending
from ml.traffic.histogram import SlidingHistogram
from ml.traffic.http1 import Response

WINDOW_S = 10
BUDGET_MS = 50
"""The promise is an answer within this, at the client."""
EXAMPLES_MAX = 20
_PARKED, _RECORDED = "parked", "recorded"


class Outcome(Struct, frozen=True, gc=False):
    """The gate's answer about one event, as it stands on the wire."""

    status: str
    event_id: str | None = None
    impression_id: str | None = None
    verdict: str | None = None
    reason: str | None = None
    provisional: bool = False
    rung: str | None = None


class _Problem(Struct):
    """What a single render that is refused or quarantined is answered with."""

    outcome: Outcome


class Row(Struct, frozen=True):
    """So many distinct events of a kind got this answer first."""

    kind: Kind
    answer: Answer
    events: int


class Tally(Struct, kw_only=True):
    """
    The end of a run. *events* are distinct: a retry is none. An id that a broken client gave to two events is two.

    `disagreements` are answers to a retry that differ from the first answer of the same event; they must be none. One
    that is `DEGRADED`, or of the rung `spooled`, says that the ledger was not asked, so an earlier or later one may
    differ: those are `redecided`.
    `rejected` counts events by the status of a request that was refused as a whole. `http` has 0 for no answer.
    """

    seconds: float
    sent: int
    events: int
    renders: int
    views: int
    rows: list[Row]
    requests: int
    resends: int
    http: dict[int, int]
    rejected: dict[int, int]
    unanswered: int
    unanswered_ids: list[str]
    disagreements: int
    disagreeing_ids: list[str]
    redecided: int
    misaligned: int
    """Answers that name another event than the one in their place."""
    p50_ms: float
    p99_ms: float
    within_budget: float
    """Share of sendings answered within 50 ms of being handed to the client, whatever had to be repeated."""
    within_budget_or_marked: float
    """The same with those that came later, marked as answered without the ledger."""
    held_back_s: float
    """How long the client fell silent because too much was unanswered."""

    @property
    def answered(self) -> int:
        return sum(row.events for row in self.rows)

    def by_status(self) -> dict[str, int]:
        return summed((row.answer.status, row.events) for row in self.rows)

    def by_verdict(self) -> dict[str, int]:
        return summed((row.answer.verdict, row.events) for row in self.rows)

    def by_reason(self) -> dict[str, int]:
        return summed((row.answer.reason, row.events) for row in self.rows)


class Live(Struct, frozen=True, kw_only=True):
    """A moment of a run, for a screen; rate and latencies are of the last 10 s."""

    elapsed_s: float
    sent: int
    answered: int
    waiting: int
    rate: float
    p50_ms: float
    p99_ms: float
    verdicts: dict[str, int]
    reasons: dict[str, int]
    statuses: dict[str, int]
    resends: int


_OUTCOME = msgspec.json.Decoder(Outcome)
_OUTCOMES = msgspec.json.Decoder(list[Outcome])
_PROBLEM = msgspec.json.Decoder(_Problem)


class Recorder:
    """Counts what is sent and answered. Times are of one monotone clock, in seconds."""

    def __init__(self) -> None:
        self._latency = SlidingHistogram(WINDOW_S)
        self._rates: deque[tuple[int, int]] = deque(maxlen=WINDOW_S + 1)
        self._kinds: Counter[Kind] = Counter()
        self._first: Counter[tuple[Kind, Answer]] = Counter()
        self._rejected: Counter[int] = Counter()
        self._counts: Counter[str] = Counter()
        self._given_up: dict[UUID, Event] = {}
        self._disagreeing_ids: deque[str] = deque(maxlen=EXAMPLES_MAX)
        self._known: dict[tuple[str, str | None, str | None, bool], Answer] = {}

    def sending(self, sending: Sending) -> None:
        self._counts["sent"] += 1
        if not sending.attempt:
            self._kinds[sending.event.kind] += 1

    def took(self, now_s: float, seconds: float) -> None:
        self._latency.add(now_s, seconds * 1e6)

    def answered(self, batch: Sequence[Sending], outcomes: Sequence[Outcome], now_s: float, seconds: float) -> None:
        """Note the first answer of each event of *batch*, given *seconds* after it was handed to the client."""
        answers = [self._note(sending.event, outcome) for sending, outcome in zip(batch, outcomes, strict=True)]
        if seconds * 1e3 <= BUDGET_MS:
            self._counts["in_budget"] += len(batch)
        else:
            self._counts["late_but_marked"] += sum(answer.is_marked for answer in answers)
        second = int(now_s)
        if self._rates and self._rates[-1][0] == second:
            self._rates[-1] = (second, self._rates[-1][1] + len(batch))
        else:
            self._rates.append((second, len(batch)))

    def rejected(self, batch: Sequence[Sending], status: int) -> None:
        """Note that the request with *batch* was refused as a whole."""
        self._rejected[status] += len(batch)

    def given_up(self, batch: Sequence[Sending]) -> None:
        """Note that *batch* got no answer; some of its events may yet, or already, by another sending."""
        self._given_up |= {sending.event.event_id: sending.event for sending in batch}

    def live(self, now_s: float, *, elapsed_s: float, waiting: int, resends: int) -> Live:
        window, rows = self._latency.recent(now_s), self._rows()
        return Live(
            elapsed_s=elapsed_s,
            sent=self._counts["sent"],
            answered=sum(row.events for row in rows),
            waiting=waiting,
            rate=self._rate(now_s),
            p50_ms=window.quantile_ms(0.5),
            p99_ms=window.quantile_ms(0.99),
            verdicts=summed((row.answer.verdict, row.events) for row in rows),
            reasons=summed((row.answer.reason, row.events) for row in rows),
            statuses=summed((row.answer.status, row.events) for row in rows),
            resends=resends,
        )

    def tally(self, *, seconds: float, http: Counter[int], resends: int, held_back_s: float) -> Tally:
        counts, latency = self._counts, self._latency.all
        unanswered = [str(event.event_id) for event in self._given_up.values() if event.answer is None]
        return Tally(
            seconds=seconds,
            sent=counts["sent"],
            events=self._kinds.total(),
            renders=self._kinds[Kind.RENDER],
            views=self._kinds[Kind.VIEW],
            rows=self._rows(),
            requests=http.total() - resends,
            resends=resends,
            http=dict(http),
            rejected=dict(self._rejected),
            unanswered=len(unanswered),
            unanswered_ids=unanswered[:EXAMPLES_MAX],
            disagreements=counts["disagreements"],
            disagreeing_ids=list(self._disagreeing_ids),
            redecided=counts["redecided"],
            misaligned=counts["misaligned"],
            p50_ms=latency.quantile_ms(0.5),
            p99_ms=latency.quantile_ms(0.99),
            within_budget=counts["in_budget"] / max(1, counts["sent"]),
            within_budget_or_marked=(counts["in_budget"] + counts["late_but_marked"]) / max(1, counts["sent"]),
            held_back_s=held_back_s,
        )

    def _rows(self) -> list[Row]:
        return [Row(kind, answer, events) for (kind, answer), events in self._first.most_common()]

    def _rate(self, now_s: float) -> float:
        """The answers per second over the whole seconds of the window."""
        second = int(now_s)
        whole = [(at, answers) for at, answers in self._rates if second - WINDOW_S <= at < second]
        return sum(answers for _, answers in whole) / (second - whole[0][0]) if whole else 0.0

    def _note(self, event: Event, outcome: Outcome) -> Answer:
        if outcome.event_id is not None and outcome.event_id != str(event.event_id):
            self._counts["misaligned"] += 1
        key = (outcome.status, outcome.verdict, outcome.reason, outcome.rung == Rung.SPOOLED)
        answer = self._known.get(key)
        if answer is None:
            answer = self._known[key] = Answer(*key)
        if event.answer is None:
            event.answer = answer
            self._first[event.kind, answer] += 1
        elif not event.answer.same_as(answer) and not _may_follow(event.answer, answer):
            if event.answer.is_marked or answer.is_marked:
                self._counts["redecided"] += 1
            else:
                self._counts["disagreements"] += 1
                self._disagreeing_ids.append(str(event.event_id))
        return answer


def outcomes_of(response: Response, kind: str, *, single: bool, expected: int) -> list[Outcome] | None:
    """Return the outcomes in *response*; None if the request was refused as a whole or the answer cannot be read."""
    try:
        if single and response.status != 200:
            return [_PROBLEM.decode(response.body).outcome]
        if response.status != 200:
            return None
        if single:
            return [_OUTCOME.decode(response.body)]
        outcomes = _OUTCOME.decode_lines(response.body) if kind == NDJSON else _OUTCOMES.decode(response.body)
    except msgspec.DecodeError:
        return None
    return outcomes if len(outcomes) == expected else None


def _may_follow(first: Answer, later: Answer) -> bool:
    """A view that was parked is recorded once its render is there."""
    return first.status == _PARKED and later.status == _RECORDED


def summed(pairs: Iterable[tuple[str | None, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for name, events in pairs:
        if name is not None:
            summed[name] += events
    return dict(summed.most_common())
