"""What became of a replayed log, for a terminal."""

from rich.console import Group

from service.console import Grid
from service.demo_screen import invariant_lines, spelled
from service.parameters import rfc3339
from service.replay import Replay

_SECOND_MS = 1_000


def replay_screen(replay: Replay) -> Group:
    """Return counts, identities, and what to do next."""
    parts = f"{replay.net:,} net + {replay.givt:,} givt + {replay.sivt:,} sivt + {replay.undecided:,} undecided"
    others = f"{replay.not_images:,} of something else, {replay.malformed:,} that cannot be read"
    facts = Grid(box=None, show_header=False, pad_edge=False)
    facts.add_row("lines", f"{replay.lines:,}: {replay.impressions:,} impressions, {others}")
    facts.add_row("verdicts", spelled(replay.verdicts))
    facts.add_row("reasons", spelled(replay.reasons))
    facts.add_row("gross", f"{replay.gross:,} = {parts}, of all replays")
    return Group(facts, "", *invariant_lines(replay.invariants, replay.problems), *_next(replay))


def _next(replay: Replay) -> list[str]:
    if replay.first_at is None or replay.last_at is None:
        return [] if replay.problems else ["The log has no image that was asked for by GET and delivered."]
    since, until = rfc3339(replay.first_at), rfc3339(replay.last_at + _SECOND_MS)
    return [f"next: impledger report --by reason --data-set replay --since {since} --until {until}"]
