"""From commits to what was served, and which numbers of sessions are missing: pure, to be summed in any order."""

from collections.abc import Iterable
from typing import NamedTuple

from domain import sequences, serves
from domain.sequences import SequencesCounted
from domain.serves import AdsServed
from domain.vocabulary import DataSet
from ledger.codec import decode
from ledger.store import Commit

_SECOND_MS = 1_000
_STREAMS = (serves.STREAM_PREFIX, sequences.STREAM_PREFIX)


class ServedRow(NamedTuple):
    """So many ads of one kind, served in the minute that began at `minute` (epoch s). Renders come out of the facts."""

    minute: int
    data_set: str
    campaign: str
    currency: str
    surface: str
    format: str
    sdk: str
    served: int
    served_micros: int
    heard: int = 0
    rendered: int = 0
    rendered_micros: int = 0
    double_fires: int = 0
    duplicate_renders: int = 0


class ReportRow(NamedTuple):
    """One report; `minute` is epoch s, `received_at` epoch ms."""

    position: int
    received_at: int
    minute: int
    source: str
    sequence: int
    kinds: int
    served: int
    served_micros: int


class SequenceRow(NamedTuple):
    """Numbers of one SDK version on one surface; `minute` is epoch s, `counted_at` epoch ms."""

    position: int
    item: int
    counted_at: int
    minute: int
    surface: str
    sdk: str
    numbers: int
    missing: int
    filled: int
    repeats: int
    restarts: int


class ServedRows(NamedTuple):
    served: list[ServedRow]
    reports: list[ReportRow]
    sequences: list[SequenceRow]

    @property
    def total(self) -> int:
        return len(self.served) + len(self.reports) + len(self.sequences)


def served_rows(commits: Iterable[Commit]) -> ServedRows:
    """
    Return the rows that *commits* add.

    Raises:
        UnreadableCommit: bytes are damaged or written by a newer program.
    """
    found = ServedRows([], [], [])
    for commit in commits:
        if isinstance(commit.stream, str) and commit.stream.startswith(_STREAMS):
            for event in decode(commit.data):
                if isinstance(event, AdsServed):
                    _add_report(found, commit.position, event)
                elif isinstance(event, SequencesCounted):
                    _add_sequences(found, commit.position, event)
    return found


def _add_report(found: ServedRows, position: int, event: AdsServed) -> None:
    minute = event.minute // _SECOND_MS
    for count in event.counts:
        found.served.append(
            ServedRow(
                minute,
                DataSet.LIVE.value,
                count.campaign,
                count.currency,
                count.surface.value,
                count.format.value,
                count.sdk,
                count.served,
                count.micros,
            )
        )
    found.reports.append(
        ReportRow(
            position,
            event.received_at,
            minute,
            event.source,
            event.sequence,
            len(event.counts),
            sum(count.served for count in event.counts),
            sum(count.micros for count in event.counts),
        )
    )


def _add_sequences(found: ServedRows, position: int, event: SequencesCounted) -> None:
    for item, count in enumerate(event.counts):
        found.sequences.append(
            SequenceRow(
                position,
                item,
                event.counted_at,
                count.at // _SECOND_MS,
                count.surface.value,
                count.sdk,
                count.numbers,
                count.missing,
                count.filled,
                count.repeats,
                count.restarts,
            )
        )
