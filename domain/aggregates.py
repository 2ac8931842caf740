"""Events of the low-rate streams that stand in the same ledger under the same seals."""

from typing import TypeAlias

from msgspec import Struct

from domain.campaign_events import CampaignEvent
from domain.events import ImpressionEvent
from domain.ids import CauseId, ImpressionId
from domain.placement_events import ModelPlaced
from domain.reasons import Reason
from domain.sequences import SequencesCounted
from domain.serves import AdsServed


class Repeats(Struct, frozen=True, gc=False):
    """How many renders of one impression were answered as repeats, and as which."""

    impression: ImpressionId
    reason: Reason
    renders: int


class AnswersCounted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="AnswersCounted"):
    """
    What one batch answered without touching an impression's stream, counted in bounded space.

    `refused` counts renders per reason of class request; `unmoved` counts views that changed nothing; `repeats` counts
    renders of impressions that already have as many repeats in their streams as the pack keeps.
    """

    cause: CauseId
    digest: str
    refused: dict[Reason, int] = {}
    unmoved: int = 0
    repeats: tuple[Repeats, ...] = ()
    counted_at: int


LedgerEvent: TypeAlias = ImpressionEvent | AnswersCounted | CampaignEvent | AdsServed | SequencesCounted | ModelPlaced
