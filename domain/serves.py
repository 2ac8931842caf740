"""
What ad delivery served: counts per minute, told in reports, never an event per serve.

A report speaks of ads minted within one minute. So what it counts meets the renders of the very same ads, whose minute
is in their ids.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, TypeAlias
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta, Struct

from domain.ids import CauseId
from domain.render import Millis, millis
from domain.vocabulary import Format, Surface

STREAM_PREFIX = "serves-"
MINUTE_MS = 60_000
COUNTS_MAX = 1_000
SEQUENCE_MAX = 599
"""Ten reports a second; and so many at most stand in the stream of one source and minute."""
MINUTE_AGE_MAX_MS = 7 * 86_400_000
"""As long as a token is good: of what was served before, no render is taken any more."""
MINUTE_AHEAD_MAX_MS = MINUTE_MS
"""How far the clock of a source may be ahead."""
TTL_S = 600
"""How long after it was served an ad may still render, unless its surface has a time of its own."""
TTL_MAX_S = 86_400
_DIGEST_BYTES = 12
_NAMESPACE = UUID("6f0c2c1e-52b7-5d0e-9a61-8c1f3a2f7d10")

Source: TypeAlias = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9_.-]{0,62}\Z")]
"""Names one ad server; one that begins to count anew within a minute needs a new name."""
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
Served: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Micros: TypeAlias = Annotated[int, Meta(ge=0, le=10**15)]


class ServeTtl(Struct, frozen=True):
    """How long a serve is in flight: it leaves at its render, or after this many seconds."""

    default_s: int = TTL_S
    by_surface: Mapping[Surface, int] = {}

    def of_s(self, surface: Surface) -> int:
        return self.by_surface.get(surface, self.default_s)

    @property
    def longest_s(self) -> int:
        return max(self.default_s, *self.by_surface.values(), 0)


def parse_ttl(text: str) -> ServeTtl:
    """
    Read `600` or `600 reels=900 audience_network=1800`: seconds, then those of single surfaces.

    Raises:
        ValueError: it is not written so, or a number is not in 1 to TTL_MAX_S.
    """
    default, *named = text.split()
    pairs = dict(part.split("=", 1) for part in named)
    ttl = ServeTtl(int(default), {Surface(surface): int(seconds) for surface, seconds in pairs.items()})
    if not all(1 <= seconds <= TTL_MAX_S for seconds in (ttl.default_s, *ttl.by_surface.values())):
        raise ValueError(f"a time is not in 1 to {TTL_MAX_S}")
    return ttl


class CountTold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """So many ads of one kind, and what they were sold for together, as it stands on the wire."""

    campaign: Name
    surface: Surface
    format: Format
    currency: Currency
    served: Served
    micros: Micros
    sdk: Annotated[str, Meta(max_length=128)] = ""


class ServesReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    What `source` served of one region's ads since its report before, as it stands on the wire.

    `minute` is when the minute began in which the ads were minted, `sequence` counts the source's reports of it from 0.
    These three identify the report: whatever is told under them again is the same report, or is refused.
    """

    source: Source
    minute: Millis
    sequence: Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
    region: Name
    counts: Annotated[tuple[CountTold, ...], Meta(min_length=1, max_length=COUNTS_MAX)]

    def __post_init__(self) -> None:
        """One minute has one spelling."""
        minute = millis(self.minute)
        if minute % MINUTE_MS:
            raise ValueError("Expected `minute` to be the begin of a minute")
        msgspec.structs.force_setattr(self, "minute", minute)


class ServedCount(Struct, frozen=True, array_like=True, gc=False):
    """`micros` is what all `served` ads were sold for together. `sdk` is empty where delivery does not know it."""

    campaign: str
    surface: Surface
    format: Format
    sdk: str
    currency: str
    served: int
    micros: int


class AdsServed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="AdsServed"):
    """One report of what was served in `minute` (its begin, epoch ms). The cause is the report's id, see `id_of`."""

    cause: CauseId
    digest: str
    source: str
    minute: int
    sequence: int
    region: str
    received_at: int
    counts: tuple[ServedCount, ...]


class ServeRefusal(StrEnum):
    """Why a report was not taken."""

    SEQUENCE_REUSED = "SEQUENCE_REUSED"
    """A report of this source and minute with this number came before and said otherwise."""
    REGION_MISDIRECTED = "REGION_MISDIRECTED"
    MINUTE_TOO_OLD = "MINUTE_TOO_OLD"
    MINUTE_AHEAD = "MINUTE_AHEAD"


class ReportRefused(Exception):
    """The report is not taken."""

    def __init__(self, refusal: ServeRefusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class ReportedMinute(Struct, frozen=True):
    """What a source told of one minute so far: the digest of each report by its number."""

    digests: Mapping[int, str] = {}

    @property
    def version(self) -> int:
        """How many events its stream has."""
        return len(self.digests)


def stream_of(report: ServesReport) -> str:
    return f"{STREAM_PREFIX}{report.source}-{millis(report.minute) // MINUTE_MS}"


def id_of(report: ServesReport) -> CauseId:
    """Return the report's id, which follows from source, minute and number."""
    return uuid5(_NAMESPACE, f"{stream_of(report)}-{report.sequence}")


def counts_of(report: ServesReport) -> tuple[ServedCount, ...]:
    """Return the counts in one order, what is of the same kind in one."""
    sums: dict[tuple[str, Surface, Format, str, str], tuple[int, int]] = {}
    for told in report.counts:
        key = (told.campaign, told.surface, told.format, told.sdk, told.currency)
        served, micros = sums.get(key, (0, 0))
        sums[key] = (served + told.served, micros + told.micros)
    return tuple([ServedCount(*key, *sums[key]) for key in sorted(sums)])


def record(state: ReportedMinute, report: ServesReport, region: str, now: int) -> AdsServed | None:
    """
    Return the event that *report* leads to, None if it was recorded before. *region* is this cell's.

    Raises:
        ReportRefused: it is not taken.
    """
    counts = counts_of(report)
    digest = blake2b(msgspec.json.encode((report.region, counts)), digest_size=_DIGEST_BYTES).hexdigest()
    known = state.digests.get(report.sequence)
    if known == digest:
        return None
    minute = millis(report.minute)
    refusals = (
        (known is not None, ServeRefusal.SEQUENCE_REUSED),
        (report.region != region, ServeRefusal.REGION_MISDIRECTED),
        (now - minute > MINUTE_AGE_MAX_MS, ServeRefusal.MINUTE_TOO_OLD),
        (minute - now > MINUTE_AHEAD_MAX_MS, ServeRefusal.MINUTE_AHEAD),
    )
    for holds, refusal in refusals:
        if holds:
            raise ReportRefused(refusal)
    return AdsServed(
        cause=id_of(report),
        digest=digest,
        source=report.source,
        minute=minute,
        sequence=report.sequence,
        region=report.region,
        received_at=now,
        counts=counts,
    )


def fold_reports(events: Iterable[AdsServed], state: ReportedMinute | None = None) -> ReportedMinute:
    """Return what is known of a minute after *events*."""
    known = {} if state is None else state.digests
    return ReportedMinute({**known, **{event.sequence: event.digest for event in events}})
