"""What clients were told, made up."""

from ml.traffic.events import Answer
from ml.traffic.tally import Row, Tally


def a_tally(*rows, unanswered=0):
    told = [Row(kind, Answer(status, None, None), events) for kind, status, events in rows]
    counts = dict.fromkeys(
        ("sent", "events", "renders", "views", "requests", "resends", "disagreements", "redecided", "misaligned"), 0
    )
    times = dict.fromkeys(
        ("seconds", "p50_ms", "p99_ms", "within_budget", "within_budget_or_marked", "held_back_s"), 1.0
    )
    return Tally(
        rows=told,
        http={},
        rejected={},
        unanswered=unanswered,
        unanswered_ids=[],
        disagreeing_ids=[],
        **counts,
        **times,
    )
