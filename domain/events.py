"""
The seven events of an impression's stream: facts, never edited.

Every cause and a keyed digest of it stand in an event, so that a retry is recognised from the stream alone. The
impression's id is the name of the stream and not repeated. Times are epoch ms, money integer micros of `cut.currency`.
"""

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from domain.funding import Funding
from domain.ids import CauseId, ImpressionId
from domain.reasons import Reason, Verdict
from domain.signals import Signal
from domain.standing import Standing, Viewabilities
from domain.vocabulary import (
    AgentClass,
    Authority,
    BillingEvent,
    CountingMethod,
    DataSet,
    Evidence,
    Format,
    Label,
    LabelSource,
    NetworkClass,
    OmidType,
    Rung,
    Surface,
)


class Cut(Struct, frozen=True, omit_defaults=True, gc=False):
    """Every dimension of a report; fixed at the first decision and copied unchanged by every later event."""

    event_at: int
    campaign: str
    advertiser: str
    creative: str
    placement: str
    publisher: str
    surface: Surface
    format: Format
    region: str
    currency: str
    billing_event: BillingEvent
    counting_method: CountingMethod
    evidence: Evidence
    sdk: str = ""
    country: str = ""
    auto_refresh: bool = False
    data_set: DataSet = DataSet.LIVE


class Versions(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What decided: replaying with the same gives the same verdict. An empty name says that none took part."""

    pack: str
    lists: str
    model: str = ""
    calibration: str = ""
    features: str = ""


class _Event(Struct, frozen=True, omit_defaults=True, tag_field="type", gc=False):
    cause: CauseId
    digest: str


class ImpressionRendered(_Event, frozen=True, tag="ImpressionRendered"):
    """
    What a client claimed, as far as any rule reads it: a stored render can be screened again.

    Person, device, network and session stand as pseudonyms under the day's key. `event_at` is the client's time,
    corrected and within [served, received]; `skew_ms` is how far it was outside. `begun`: it brings the evidence of
    begin that its count point asks for.

    Ages are of the browser's and the SDK's version, in days from its release to `received_at`, below zero before it;
    `fingerprint_inconsistencies` counts what does not fit together in what the device says of itself. All three are
    None where nothing is known, and for models: no rule reads them.
    """

    ad: str
    creative: str
    campaign: str
    advertiser: str
    placement: str
    publisher: str
    surface: Surface
    format: Format
    region: str
    currency: str
    price_micros: int
    billing_event: BillingEvent
    viewability_pack: str
    flight_start: int
    flight_end: int
    served_at: int
    received_at: int
    event_at: int
    skew_ms: int = 0
    client_at: int | None = None
    sent_at: int | None = None
    on_screen_at: int | None = None
    omid_type: OmidType | None = None
    begun: bool = True
    prefetched: bool = False
    background: bool = False
    auto_refresh: bool = False
    area_px: int | None = None
    stack_depth: int | None = None
    visible_ratio: float | None = None
    visible_ms: int | None = None
    duration_ms: int | None = None
    clicked: bool = False
    sdk: str = ""
    sdk_seq: int | None = None
    country: str = ""
    session: str = ""
    user: str = ""
    device: str = ""
    network: str = ""
    agent_class: AgentClass = AgentClass.BROWSER
    network_class: NetworkClass = NetworkClass.EYEBALL
    agent_age_days: int | None = None
    sdk_age_days: int | None = None
    fingerprint_inconsistencies: int | None = None
    missing: tuple[str, ...] = ()


class ImpressionScored(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ImpressionScored", gc=False
):
    """
    What was thought of the render right before it in the stream, whose cause it has.

    `signals` stand out about it; `pair` names those that carry a reason of class sivt, or the one that stands alone.
    `rung` is the worst in force, `rungs` are those that say something beside it, worst first (`domain/ladder.py`).
    `features` are those of what `versions.features` names that are known, float32 in little-endian order;
    `feature_status` has a letter for each, known or not. `risk` is a calibrated probability, `masked_risk` the one that
    corroborates the pair: without the features of its other family. `propensity` says that the render is of the random
    sample, and how likely that was.
    """

    reasons: tuple[Reason, ...] = ()
    versions: Versions
    rung: Rung = Rung.FULL
    rungs: tuple[Rung, ...] = ()
    signals: tuple[Signal, ...] = ()
    pair: tuple[str, ...] = ()
    risk: float | None = None
    band: str = ""
    masked_risk: float | None = None
    propensity: float | None = None
    features: bytes = b""
    feature_status: str = ""
    spent_ms: int = 0


class Uniqueness(StrEnum):
    UNIQUE = "unique"
    DUPLICATE = "duplicate"


class ImpressionDeduped(_Event, frozen=True, kw_only=True, tag="ImpressionDeduped"):
    """
    The real-time answer to one render, and what it did to the impression.

    `verdict` and `reason` answer the render; `before` and `after` say where the impression stood and stands. They are
    equal where the render is only evidence of a repeat. `counted`: it stands for as many `renders` as were answered as
    repeats before it and counted, because the stream already has as many as the pack keeps.
    """

    uniqueness: Uniqueness
    verdict: Verdict
    reason: Reason | None = None
    duplicate_of: ImpressionId | None = None
    renders: int = 1
    counted: bool = False
    funding: Funding | None = None
    cut: Cut
    before: Standing | None = None
    after: Standing
    decided_at: int


class ImpressionViewed(_Event, frozen=True, kw_only=True, tag="ImpressionViewed"):
    """What was seen of it later. Moves viewability and what depends on it, nothing else."""

    viewed_at: int
    received_at: int
    area_px: int | None = None
    visible_ratio: float | None = None
    visible_ms: int | None = None
    duration_ms: int | None = None
    clicked: bool = False
    said: Viewabilities
    cut: Cut
    before: Standing
    after: Standing
    decided_at: int


class CorrectionKind(StrEnum):
    EVIDENCE = "evidence"
    """A later render brought what was missing."""
    EXPIRY = "expiry"
    VERDICT = "verdict"
    REPRICE = "reprice"


class ImpressionReconciled(_Event, frozen=True, kw_only=True, tag="ImpressionReconciled"):
    """
    A correction. Refused ones (`accepted` false) are kept as evidence and change nothing.

    `asked` is the reason that a verdict correction asks for (None: valid). Evidence that a client's own render brought
    has no authority: it completes the first decision.
    """

    kind: CorrectionKind
    authority: Authority | None = None
    accepted: bool = True
    asked: Reason | None = None
    asked_price_micros: int | None = None
    evidence: str = ""
    observed_at: int
    deadline_met: bool = True
    versions: Versions
    cut: Cut
    before: Standing
    after: Standing
    decided_at: int


class ImpressionLabelled(_Event, frozen=True, kw_only=True, tag="ImpressionLabelled"):
    """A label that arrived. Changes no verdict by itself; `weight` in [0, 1]."""

    source: LabelSource
    label: Label
    weight: float
    observed_at: int
    received_at: int


class ImpressionAnswered(_Event, frozen=True, kw_only=True, tag="ImpressionAnswered"):
    """
    What a client was told about the render `of` while the ledger did not answer, where the ledger says otherwise.

    Changes nothing: what is stored counts.
    """

    of: CauseId
    verdict: Verdict
    reason: Reason | None = None
    answered_at: int


CausedEvent: TypeAlias = (
    ImpressionRendered
    | ImpressionDeduped
    | ImpressionViewed
    | ImpressionReconciled
    | ImpressionLabelled
    | ImpressionAnswered
)
"""An event that names its own cause."""

ImpressionEvent: TypeAlias = (
    ImpressionRendered
    | ImpressionScored
    | ImpressionDeduped
    | ImpressionViewed
    | ImpressionReconciled
    | ImpressionLabelled
    | ImpressionAnswered
)
