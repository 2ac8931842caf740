"""
Feedback: what others say of impressions later. A closed list of types, what each may say, and how far it is trusted.

A type is the source of the label that its feedback becomes. The system's own verdict is none of them: whoever learns
from its own answers learns to repeat them. Weights are ours, never a sender's.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, TypeAlias
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple, force_setattr

from domain.ids import CauseId, ImpressionId, is_impression_id, minted_at
from domain.render import Millis, millis
from domain.vocabulary import Label, LabelSource, Surface

AHEAD_MAX_MS = 60_000
"""How far a sender's clock may be ahead of ours."""
SPAN_MAX_MS = 93 * 86_400_000
"""As far back as corrections reach: two closed months."""
ORPHAN_GRACE_MS = 3_600_000
"""A render that was taken in on the last day of its token may still be in a spool."""
_DIGEST_BYTES = 16
_TIME_MAX_MS = 1 << 47

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]


class Trust(Struct, frozen=True):
    """
    What feedback of one type may say, and with which weight in [0, 1].

    `by`: the field that may stand for many impressions, in place of one impression's id.
    """

    says: tuple[Label, ...]
    weight: float
    by: str | None = None


SOURCES: Mapping[LabelSource, Trust] = {
    LabelSource.HONEYPOT: Trust((Label.INVALID,), 1.0),
    LabelSource.SDK_BUG: Trust((Label.INSTRUMENTATION,), 1.0, by="sdk"),
    LabelSource.DECLARED_BOT: Trust((Label.INVALID,), 0.95),
    LabelSource.HUMAN_REVIEW: Trust((Label.INVALID, Label.HUMAN), 0.9),
    LabelSource.ACCOUNT_ACTION: Trust((Label.INVALID,), 0.8),
    LabelSource.THIRD_PARTY: Trust((Label.INVALID,), 0.7),
    LabelSource.HUMAN_SIGNAL: Trust((Label.HUMAN,), 0.7),
    LabelSource.DISPUTE: Trust((Label.INVALID,), 0.6),
    LabelSource.PUBLISHER_BAN: Trust((Label.INVALID,), 0.5, by="publisher"),
}
"""The types of feedback. A late view is a label, too, but comes with the client's own events."""


class FeedbackRefusal(StrEnum):
    FEEDBACK_ID_REUSED = "FEEDBACK_ID_REUSED"
    """The id came before with another content."""
    OBSERVED_AHEAD = "OBSERVED_AHEAD"
    """It says that it was observed in the future."""
    IMPRESSION_AHEAD = "IMPRESSION_AHEAD"
    """The impression's id says that it will be minted in the future."""
    TOO_MANY_FOR_IMPRESSION = "TOO_MANY_FOR_IMPRESSION"
    """The impression has as much feedback as one may have."""


class Traffic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Impressions by what they have in common, with event times from `since` to before `until`."""

    sdk: Name | None = None
    surface: Surface | None = None
    publisher: Name | None = None
    since: Millis
    until: Millis

    def __post_init__(self) -> None:
        _in_ms(self, "since", "until")
        if not 0 < millis(self.until) - millis(self.since) <= SPAN_MAX_MS:
            raise ValueError("Expected `until` after `since`, by 93 days at most")

    @property
    def by(self) -> str | None:
        """Return which field the impressions have in common; None if it is no such set of fields."""
        named = self.sdk is not None, self.surface is not None, self.publisher is not None
        return {(True, True, False): "sdk", (False, False, True): "publisher"}.get(named)


class Feedback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One piece of feedback, as it stands on the wire. Exactly one of `impression_id` and `traffic` is its subject.

    `label` may be left out where the type says only one thing; once read, it is there.
    """

    id: UUID
    type: LabelSource
    impression_id: ImpressionId | None = None
    traffic: Traffic | None = None
    label: Label | None = None
    observed_at: Millis

    def __post_init__(self) -> None:
        trust = SOURCES.get(self.type)
        if trust is None:
            raise ValueError("Expected `type` to be one of feedback")
        _in_ms(self, "observed_at")
        if self.label is None and len(trust.says) == 1:
            force_setattr(self, "label", trust.says[0])
        if self.label not in trust.says:
            raise ValueError("Expected `label` to be one that the type says")
        if (self.impression_id is None) is (self.traffic is None):
            raise ValueError("Expected either `impression_id` or `traffic`")
        if self.impression_id is not None and not is_impression_id(self.impression_id):
            raise ValueError("Expected `impression_id` to be a UUIDv7")
        if self.traffic is not None and (trust.by is None or self.traffic.by != trust.by):
            raise ValueError("Expected `traffic` of an sdk on a surface for sdk_bug, of a publisher for publisher_ban")


def says(feedback: Feedback) -> Label:
    """Return the label that *feedback* gives."""
    assert feedback.label is not None, "reading it fills it in"
    return feedback.label


def digest(feedback: Feedback) -> str:
    """
    Return what identifies all that *feedback* says but its id, whatever its spelling.

    Nothing in it names a person or is secret, so it is not keyed as digests of clients' payloads are.
    """
    return blake2b(msgspec.json.encode(astuple(feedback)[1:]), digest_size=_DIGEST_BYTES).hexdigest()


def flaw_of(feedback: Feedback, now: int, clock_ahead_max_ms: int) -> FeedbackRefusal | None:
    """
    Say why *feedback* cannot be taken at *now* (epoch ms), None if it can.

    What delivery mints with a clock ahead by up to *clock_ahead_max_ms* counts, so it may be spoken of.
    """
    if millis(feedback.observed_at) > now + AHEAD_MAX_MS:
        return FeedbackRefusal.OBSERVED_AHEAD
    if feedback.impression_id is not None and minted_at(feedback.impression_id) > now + clock_ahead_max_ms:
        return FeedbackRefusal.IMPRESSION_AHEAD
    return None


def label_id(feedback: UUID, impression: ImpressionId) -> CauseId:
    """Return the cause of the one label that *feedback* gives *impression*: no event id of a client can be the same."""
    return uuid5(feedback, f"label {impression}")


def orphan_at(impression: ImpressionId, received_at: int, token_age_max_ms: int) -> int:
    """Return from when on (epoch ms) no render of *impression* is to be expected any more."""
    return max(minted_at(impression) + token_age_max_ms, received_at) + ORPHAN_GRACE_MS


def _in_ms(of: Struct, *names: str) -> None:
    """Bring times to epoch ms: one time has one spelling."""
    for name in names:
        if isinstance(at := getattr(of, name), datetime):
            if not 0 <= (at_ms := millis(at)) <= _TIME_MAX_MS:
                raise ValueError(f"Expected `{name}` from 1970 to 6429")
            force_setattr(of, name, at_ms)
