"""
Plain commits: most of the ledger, read no further than followers need.

One decides one render, for the first time and for certain, with a score that was not skipped, and is not of the random
sample: it gives no cause to look again (`domain/reevaluation.py`).
"""

import msgspec
from msgspec import Struct

from domain.reasons import Verdict
from domain.vocabulary import Rung, Surface
from ledger.codec import UnreadableCommit, as_written_today
from ledger.store import Commit

_EVENTS = 3
_CERTAIN = frozenset({Verdict.VALID, Verdict.DROPPED})


class PlainRender(Struct, tag_field="type", tag="ImpressionRendered", frozen=True, gc=False):
    """The fields of `ImpressionRendered` that followers read."""

    publisher: str
    surface: Surface
    event_at: int
    begun: bool = True
    visible_ratio: float | None = None
    clicked: bool = False
    user: str = ""
    device: str = ""
    network: str = ""


class _Scored(Struct, tag_field="type", tag="ImpressionScored", gc=False):
    rung: Rung = Rung.FULL
    rungs: tuple[Rung, ...] = ()
    propensity: float | None = None


class _Standing(Struct, gc=False):
    verdict: Verdict


class _Deduped(Struct, tag_field="type", tag="ImpressionDeduped", gc=False):
    after: _Standing


_decode = msgspec.json.Decoder(tuple[int, PlainRender, _Scored, _Deduped]).decode


def plain_render(commit: Commit) -> PlainRender | None:
    """Return what *commit*, of an impression's stream, decides if it is plain; None if it is not, or is unreadable."""
    if commit.version or commit.count != _EVENTS:
        return None
    try:
        _, rendered, scored, deduped = _decode(as_written_today(commit.data))
    except (UnreadableCommit, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_remarkable = Rung.SHED in (scored.rung, *scored.rungs) or scored.propensity is not None
    return rendered if deduped.after.verdict in _CERTAIN and not is_remarkable else None
