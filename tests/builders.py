"""
Valid defaults for everything of the domain, so that a test names only what it is about.

One ad instance, minted at `MINTED`, of one display ad in a feed, billed per impression at `PRICE` micros. Every command
has its own cause unless one is named.
"""

import inspect
import re
from hashlib import blake2b
from importlib.resources import files
from itertools import count
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from domain.decide import (
    AdmitRender,
    AttachLabel,
    Command,
    CommandRefused,
    NoteAnswer,
    Reconcile,
    RecordView,
    Refusal,
    decide,
)
from domain.events import CorrectionKind, ImpressionEvent, ImpressionScored, Versions
from domain.ids import mint
from domain.impression import Decided, Impression, Unseen, fold
from domain.pack import Measures, parse_pack
from domain.reasons import Reason, Verdict
from domain.render import Render, content
from domain.screen import claim, cut_of, in_order, screen
from domain.standing import Standing, Viewability
from domain.token import Token, TokenKey
from domain.vocabulary import Authority, BillingEvent, DataSet, Format, Label, LabelSource, OmidType, Surface

MINTED = 1_790_000_000_000
SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000
PRICE = 2_000
PACK_TEXT = (files("domain") / "packs" / "base-1.toml").read_text()
PACK = parse_pack(PACK_TEXT, "base-1.toml")
VERSIONS = Versions(pack=PACK.id, lists="lists-1")
KEY = TokenKey(signing=b"s" * 32, price=b"p" * 32)
SCREENED = tuple(Reason[name] for name in re.findall(r"append\(Reason\.(\w+)\)", inspect.getsource(screen)))
"""The reasons that the screen can give, in the order in which it looks for them."""
IMPRESSION, ORIGINAL = mint(MINTED, 7, 1), mint(MINTED, 7, 2)
NETWORK_AD = {"surface": Surface.AUDIENCE_NETWORK}

_causes = count(1)


def cause(number=None) -> UUID:
    """Return the cause of that number; ids are in order of their numbers. Without one: a fresh one."""
    return UUID(int=(1 << 96) + next(_causes)) if number is None else UUID(int=number)


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def a_token(**changes) -> Token:
    fields = {
        "impression": IMPRESSION,
        "ad": "ad-1",
        "creative": "creative-1",
        "campaign": "campaign-1",
        "advertiser": "advertiser-1",
        "placement": "placement-1",
        "publisher": "publisher-1",
        "surface": Surface.FEED,
        "format": Format.DISPLAY,
        "region": "eu",
        "epoch": 1,
        "currency": "EUR",
        "price_micros": PRICE,
        "flight_start": MINTED - 30 * DAY,
        "flight_end": MINTED + 30 * DAY,
        "billing_event": BillingEvent.IMPRESSION,
        "viewability_pack": "mrc",
    }
    return Token(**{**fields, **changes})


def a_render(**changes) -> Render:
    """A render of a feed's ad, on the screen one second after it was minted; no measures of what was seen."""
    fields = {
        "event_id": cause(),
        "token": "token",
        "on_screen_at": MINTED + SECOND,
        "width": 300,
        "height": 250,
        "agent": "Mozilla/5.0",
    }
    return Render(**{**fields, **changes})


def an_omid_render(omid_type=OmidType.BEGIN_TO_RENDER, **changes) -> Render:
    """A render on the Audience Network, where OMID tells how far it came."""
    return a_render(on_screen_at=None, omid_type=omid_type, **changes)


def a_claim(render=None, token=None, received_at=MINTED + SECOND, **changes):
    render = a_render() if render is None else render
    token = a_token() if token is None else token
    if render.sent_at is not None:
        changes = {"clock_offset_ms": received_at - render.sent_at, **changes}
    return claim(render, token, PACK, digest=digest(content(render)), received_at=received_at, **changes)


def reasons_against(render=None, token=None, received_at=MINTED + SECOND, **changes):
    return screen(a_claim(render, token, received_at, **changes), PACK)


def admit(rendered=None, *, also=(), duplicate_of=None, data_set=DataSet.LIVE, **changes) -> AdmitRender:
    """A screened render; *also* holds against it what later stages found. *changes* are those of its claim."""
    rendered = a_claim(**changes) if rendered is None else rendered
    scored = ImpressionScored(reasons=in_order({*screen(rendered, PACK), *also}), versions=VERSIONS)
    if Reason.DOUBLE_FIRE in also and duplicate_of is None:
        duplicate_of = ORIGINAL
    return AdmitRender(rendered, scored, cut_of(rendered, PACK, data_set), PACK, rendered.received_at, duplicate_of)


def admit_omid(omid_type=OmidType.BEGIN_TO_RENDER, **changes) -> AdmitRender:
    """A screened render on the Audience Network."""
    return admit(render=an_omid_render(omid_type), token=a_token(**NETWORK_AD), **changes)


def a_view(*, received_at=MINTED + 5 * SECOND, id_=None, pack=PACK, **measures) -> RecordView:
    """A view; without measures it is one that makes display viewable."""
    seen = {"area_px": 75_000, **(measures or {"visible_ratio": 0.9, "visible_ms": 1_500})}
    seen = {"format": Format.DISPLAY, **seen}
    return RecordView(
        cause=cause() if id_ is None else id_,
        digest=digest(repr(sorted(seen.items())).encode()),
        measures=Measures(**seen),
        viewed_at=received_at,
        received_at=received_at,
        pack=pack,
        decided_at=received_at,
    )


def a_correction(asked=None, authority=Authority.REVIEW, *, observed_at=MINTED + HOUR, id_=None, **changes):
    """A correction of the verdict; *asked* None asks for valid."""
    fields = {
        "correction": cause() if id_ is None else id_,
        "digest": digest(repr((asked, authority, observed_at, changes.get("asked_price_micros"))).encode()),
        "kind": CorrectionKind.VERDICT,
        "authority": authority,
        "asked": asked,
        "observed_at": observed_at,
        "versions": VERSIONS,
        "decided_at": observed_at,
    }
    return Reconcile(**{**fields, **changes})


def an_expiry(at=MINTED + 30 * DAY, **changes) -> Reconcile:
    return a_correction(authority=Authority.EXPIRY, observed_at=at, kind=CorrectionKind.EXPIRY, **changes)


def a_reprice(price_micros, authority=Authority.REVIEW, **changes) -> Reconcile:
    changes = {"kind": CorrectionKind.REPRICE, "asked_price_micros": price_micros, **changes}
    return a_correction(authority=authority, **changes)


def a_label(source=LabelSource.THIRD_PARTY, label=Label.INVALID, weight=0.7, *, at=MINTED + HOUR, id_=None):
    return AttachLabel(
        cause=cause() if id_ is None else id_,
        digest=digest(repr((source, label, weight)).encode()),
        source=source,
        label=label,
        weight=weight,
        observed_at=at,
        received_at=at,
    )


def an_answer(of, verdict=Verdict.UNCERTAIN, reason=Reason.DEGRADED, *, at=MINTED + SECOND, id_=None) -> NoteAnswer:
    """What the sender of the render *of* was told while the ledger did not answer."""
    named = cause() if id_ is None else id_
    return NoteAnswer(cause=named, digest="answered", of=of, verdict=verdict, reason=reason, answered_at=at)


class Turn(Struct, frozen=True):
    """One command in one state: what it led to, or why it was refused."""

    before: Impression
    events: tuple[ImpressionEvent, ...]
    after: Impression
    refusal: Refusal | None = None

    def then(self, *checks):
        for check in checks:
            check(self)
        return self


class Given(Struct, frozen=True):
    state: Impression

    def when(self, command: Command) -> Turn:
        try:
            events = decide(self.state, command)
        except CommandRefused as refused:
            return Turn(self.state, (), self.state, refused.refusal)
        return Turn(self.state, events, fold(events, self.state))


def given(*commands: Command) -> Given:
    """The state that *commands* lead to; one that is refused fails the test."""
    state: Impression = Unseen()
    for command in commands:
        state = fold(decide(state, command), state)
    return Given(state)


def appends(*names):
    """Checks which events were appended, by name without `Impression`."""

    def check(turn):
        assert event_names(turn.events) == names

    return check


def appends_nothing(turn):
    assert turn.refusal is None
    assert turn.events == ()
    assert turn.after == turn.before


def refuses(refusal):
    def check(turn):
        assert turn.refusal is refusal
        assert turn.after == turn.before

    return check


def counts(*, billable=PRICE, reserved=0, viewable=None):
    """Checks that the impression is valid; *viewable* names a viewability pack that says so."""

    def check(turn):
        standing = standing_of(turn.after)
        assert standing.verdict is Verdict.VALID
        assert (standing.billable_micros, standing.reserved_micros) == (billable, reserved)
        assert viewable is None or standing.viewability[viewable] is Viewability.VIEWABLE

    return check


def stands(verdict, reason=None, *, reserved=0):
    """Checks that the impression is not billed, and for which reason."""

    def check(turn):
        standing = standing_of(turn.after)
        assert (standing.verdict, standing.reason) == (verdict, reason)
        assert (standing.billable_micros, standing.reserved_micros) == (0, reserved)

    return check


def changes_no_standing(turn):
    assert standing_of(turn.after) == standing_of(turn.before)


def event_names(events) -> tuple[str, ...]:
    return tuple(type(event).__name__.removeprefix("Impression") for event in events)


def standing_of(state) -> Standing:
    assert isinstance(state, Decided), f"no decision stands: {state}"
    return state.standing


def but_for_answers(state) -> Decided:
    """The state without what was answered to whom, which does depend on the order of arrival."""
    assert isinstance(state, Decided)
    return replace(state, absorbed={})
