"""The renders of a stream that were decided, each with what was thought of it and what came of it."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from domain.events import (
    CorrectionKind,
    ImpressionDeduped,
    ImpressionEvent,
    ImpressionReconciled,
    ImpressionRendered,
    ImpressionScored,
)


class DecidedRender(NamedTuple):
    rendered: ImpressionRendered
    scored: ImpressionScored
    outcome: ImpressionDeduped | ImpressionReconciled


def decided_renders(events: Iterable[ImpressionEvent]) -> Iterator[DecidedRender]:
    """Yield the renders that *events*, of one impression and in order, decide. A repeat decides nothing."""
    rendered: ImpressionRendered | None = None
    scored: ImpressionScored | None = None
    for event in events:
        match event:
            case ImpressionRendered():
                rendered, scored = event, None
            case ImpressionScored():
                scored = event
            case ImpressionDeduped() | ImpressionReconciled(kind=CorrectionKind.EVIDENCE):
                if rendered is not None and scored is not None and event.cause == rendered.cause:
                    yield DecidedRender(rendered, scored, event)
                rendered = scored = None
            case _:
                pass
