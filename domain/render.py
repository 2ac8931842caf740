"""What a client sends: one render or one view, as it stands on the wire."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

from domain.ids import CauseId
from domain.vocabulary import OmidType

RENDER_MAX_BYTES = 65_536
"""A render with every field at its longest is a tenth of this; what is larger is none, whatever it says."""
_TIME_MAX_MS = 1 << 47
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)

Millis: TypeAlias = Annotated[int, Meta(ge=0, le=_TIME_MAX_MS)] | Annotated[datetime, Meta(tz=True)]
"""A time on the wire: epoch milliseconds or RFC 3339."""
Text: TypeAlias = Annotated[str, Meta(max_length=128)]
LongText: TypeAlias = Annotated[str, Meta(max_length=1_024)]
TokenText: TypeAlias = Annotated[str, Meta(max_length=2_048)]
Pixels: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 53)]
Duration: TypeAlias = Annotated[int, Meta(ge=0, le=86_400_000)]
Ratio: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class Kind(StrEnum):
    RENDER = "render"
    VIEW = "view"


class Fingerprint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """
    What a device says of itself beside its agent; compared with it and then forgotten.

    `platform` is `navigator.platform` or the app's name for its system; `hint_*` are the client hints `Sec-CH-UA`,
    `-Platform` and `-Mobile`, which browsers of Chromium send and others do not. The screen is in CSS px or dp.
    """

    platform: Text | None = None
    hint_brands: Annotated[str, Meta(max_length=256)] | None = None
    hint_platform: Text | None = None
    hint_mobile: bool | None = None
    touch_points: Annotated[int, Meta(ge=0, le=256)] | None = None
    screen_width: Pixels | None = None
    screen_height: Pixels | None = None


class Render(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """
    One event from a client. Lengths are CSS px or dp, durations ms, ratios in [0, 1].

    `stack_depth` counts the ads in its place at the time, itself among them. `visible_ms` is the longest continuous
    time during which at least `visible_ratio` of the area was on screen. `sent_at` and `attempt` stand last and belong
    to the transport: a retry may change them and stays the same event.
    """

    event_id: CauseId
    token: TokenText
    kind: Kind = Kind.RENDER
    client_at: Millis | None = None
    on_screen_at: Millis | None = None
    omid_type: OmidType | None = None
    prefetched: bool = False
    background: bool = False
    auto_refresh: bool = False
    clicked: bool = False
    width: Pixels | None = None
    height: Pixels | None = None
    stack_depth: Annotated[int, Meta(ge=0, le=1_000)] | None = None
    visible_ratio: Ratio | None = None
    visible_ms: Duration | None = None
    duration_ms: Duration | None = None
    sdk: Text | None = None
    sdk_seq: Count | None = None
    session: Text | None = None
    user: Text | None = None
    device: Text | None = None
    country: Annotated[str, Meta(min_length=2, max_length=2)] | None = None
    agent: LongText | None = None
    network: Text | None = None
    received_at: Millis | None = None
    fingerprint: Fingerprint | None = None
    sent_at: Millis | None = None
    attempt: Annotated[int, Meta(ge=0, le=1_000)] = 0

    def __post_init__(self) -> None:
        """Bring every time to epoch ms: one time has one spelling and one range."""
        if (
            isinstance(self.client_at, datetime)
            or isinstance(self.on_screen_at, datetime)
            or isinstance(self.received_at, datetime)
            or isinstance(self.sent_at, datetime)
        ):
            _to_millis(self)


_TIMES = ("client_at", "on_screen_at", "received_at", "sent_at")
_TRANSPORT_FIELDS = 2
_WITHOUT_FINGERPRINT = _TRANSPORT_FIELDS + 1
_ENCODER = msgspec.json.Encoder()


def content(render: Render) -> bytes:
    """
    Return the bytes that identify what *render* says, whatever its spelling and whichever attempt it is.

    Without a fingerprint they are what they were before there were any: a retry may meet a newer gate.
    """
    last = _WITHOUT_FINGERPRINT if render.fingerprint is None else _TRANSPORT_FIELDS
    return _ENCODER.encode(astuple(render)[:-last])


def millis(at: int | datetime) -> int:
    """Return a time off the wire in epoch ms."""
    return at if isinstance(at, int) else (at - _EPOCH) // _MILLISECOND


def _to_millis(render: Render) -> None:
    for name in _TIMES:
        at = getattr(render, name)
        if isinstance(at, datetime):
            if not 0 <= (at_ms := millis(at)) <= _TIME_MAX_MS:
                raise ValueError(f"Expected `{name}` from 1970 to 6429")
            msgspec.structs.force_setattr(render, name, at_ms)
