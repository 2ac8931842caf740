"""
What happens to one shown ad on its way to the gate. `DEEDS` is the table, with the share of a campaign's shots that
each befalls; another one is another function and another line. What no line befalls is `plain`. Deeds of a family are
there only where it takes part.
"""

from typing import NamedTuple

from msgspec.structs import replace as replaced

from domain.vocabulary import OmidType, Surface
from ml.traffic import habits
from ml.traffic.draw import Span, pick
from ml.traffic.shot import Play, Shot
from ml.traffic.spoil import spoil

RETRIES_MAX = 3
SHOWN_LATER = 0.64
BEGUN_LATER = 0.81
COMPLETED_LATER = 0.37
_UNPROVEN = (OmidType.UNSPECIFIED, OmidType.DEFINED_BY_JAVASCRIPT, OmidType.OTHER)
_REGIONS = ("eu", "us", "apac", "latam")


class Deed(NamedTuple):
    name: str
    share: Span
    play: Play


def plain(shot: Shot) -> None:
    rng = shot.rng
    upload_ms = habits.UPLOAD_AFTER_MS.whole(rng)
    ad = shot.ad()
    shown = shot.render(ad, shot.now)
    if rng.random() < shot.slot.campaign.habits.views_early:
        shot.send(shot.view(ad, shot.now, shot.look()), upload_ms, shows=False)
        shot.send(shown, upload_ms + habits.VIEW_EARLY_MS.whole(rng))
        return
    shot.send(shown, upload_ms)
    shot.send_view(ad, upload_ms=upload_ms)


def retry(shot: Shot) -> None:
    """The answer is lost on its way; the device sends the event again, up to three times."""
    shown = shot.render(shot.ad(), shot.now)
    retries = int(1 + shot.rng.random() * RETRIES_MAX) if shot.send(shown) else 0
    after_ms = 0
    for attempt in range(1, retries + 1):
        after_ms += habits.RETRY_AFTER_MS.whole(shot.rng)
        shot.send_again(shown, after_ms, attempt)


def duplicate(shot: Shot) -> None:
    """The same ad instance renders again: scrolled back to, or reported by two listeners."""
    ad = shot.ad()
    shot.send(shot.render(ad, shot.now))
    after_ms = habits.DUPLICATE_AFTER_MS.whole(shot.rng)
    shot.send(shot.render(ad, shot.now + after_ms), after_ms)
    shot.send_view(ad, after_ms)


def conflict(shot: Shot) -> None:
    """The same ad instance, claimed a second time for another creative or slot."""
    ad = shot.ad()
    shot.send(shot.render(ad, shot.now))
    after_ms = habits.DUPLICATE_AFTER_MS.whole(shot.rng)
    changes = pick(
        ({"creative": f"{shot.slot.creative.name}-b"}, {"placement": f"{shot.slot.placement.name}-b"}), shot.rng
    )
    other = shot.token_for(ad.impression, **changes)
    shot.send(shot.render(other, shot.now + after_ms), after_ms)


def reused_id(shot: Shot) -> None:
    """A broken client gives two events about one ad one id."""
    ad = shot.ad()
    first = shot.render(ad, shot.now)
    if shot.send(first):
        after_ms = habits.RETRY_AFTER_MS.whole(shot.rng)
        shot.send(shot.render(ad, shot.now, event_id=first.event_id), after_ms, shows=False)


def double_fire(shot: Shot) -> None:
    """A bug of one SDK version: it asks for two ad instances for one slot and reports both."""
    first = shot.ad()
    shot.send(shot.render(first, shot.now))
    after_ms = shot.session.sdk.again_ms.whole(shot.rng)
    shot.send(shot.render(shot.ad(), shot.now + after_ms), after_ms)
    shot.send_view(first)


def replayed(shot: Shot) -> None:
    """Somebody who saw the event sends it again under new event ids, for days' wages of somebody else's ad."""
    ad = shot.ad()
    if not shot.send(shot.render(ad, shot.now)):
        return
    after_ms, seq = 0, shot.session.seq
    by = pick(shot.rigs, shot.rng)
    for _ in range(habits.REPLAYS.whole(shot.rng)):
        after_ms += habits.REPLAYED_AFTER_MS.whole(shot.rng)
        shot.send(shot.render(ad, shot.now + after_ms, **by.claims()), after_ms, by=by)
    shot.session.seq = seq


def prefetched(shot: Shot) -> None:
    """Loaded before anybody scrolled there; many are never shown, the others are told again under another id."""
    ad = shot.ad()
    shot.send(shot.render(ad, shot.now, proof=False, prefetched=True), shows=False)
    if shot.rng.random() < SHOWN_LATER:
        after_ms = habits.SHOWN_AFTER_MS.whole(shot.rng)
        shot.send(shot.render(ad, shot.now + after_ms), after_ms)
        shot.send_view(ad, after_ms)


def loaded(shot: Shot) -> None:
    """Open Measurement says `loaded` first and `beginToRender` when it does."""
    if shot.session.surface is not Surface.AUDIENCE_NETWORK:
        shot.deed = "plain"
        plain(shot)
        return
    ad = shot.ad()
    shot.send(shot.render(ad, shot.now, proof=False, omid_type=OmidType.LOADED), shows=False)
    if shot.rng.random() < BEGUN_LATER:
        after_ms = habits.BEGUN_AFTER_MS.whole(shot.rng)
        shot.send(shot.render(ad, shot.now + after_ms, omid_type=OmidType.BEGIN_TO_RENDER), after_ms)
        shot.send_view(ad, after_ms)


def late(shot: Shot) -> None:
    """Seen in a tunnel, told in the evening."""
    by_ms = habits.LATE_BY_MS.whole(shot.rng)
    ad = shot.ad(by_ms + habits.SERVED_BEFORE_MS.whole(shot.rng))
    shot.send(shot.render(ad, shot.now - by_ms))


def incomplete(shot: Shot) -> None:
    """The proof is missing, or who it was; sometimes a later log brings it."""
    ad = shot.ad()
    if shot.session.surface is Surface.AUDIENCE_NETWORK:
        lacking = shot.render(ad, shot.now, proof=False, omid_type=pick((None, *_UNPROVEN), shot.rng))
    elif shot.rng.random() < 0.28:
        lacking = shot.render(ad, shot.now, agent=None, device=None)
    else:
        lacking = shot.render(ad, shot.now, proof=False)
    completed = shot.rng.random() < COMPLETED_LATER
    shot.send(lacking, shows=not completed)
    if completed:
        after_ms = habits.COMPLETED_AFTER_MS.whole(shot.rng)
        shot.send(shot.render(ad, shot.now), after_ms)


def in_background(shot: Shot) -> None:
    """Rendered by an app that nobody looks at."""
    shot.send(shot.render(shot.ad(), shot.now, proof=False, background=True), shows=False)


def malformed(shot: Shot) -> None:
    event = shot.render(shot.ad(), shot.now)
    shot.send(replaced(event, head=spoil(event.head, shot.rng)), shows=False)


def forged(shot: Shot) -> None:
    """The token was not signed by delivery: its mac or what it covers was changed, or the key is unknown."""
    ad = shot.ad()
    version, key_id, payload, mac = ad.token.split(".")
    swapped = payload[:-9] + payload[-8:-4] + payload[-9] + payload[-4:]
    token = pick(
        (
            f"{version}.{key_id}.{payload}.{mac[::-1]}",
            f"{version}.{key_id}.{swapped}.{mac}",
            f"{version}.k0.{payload}.{mac}",
            f"{version}.{key_id}.{payload}",
        ),
        shot.rng,
    )
    shot.send(shot.render(ad._replace(token=token), shot.now), shows=False)


def expired(shot: Shot) -> None:
    """An old token, kept and played again."""
    shot.send(shot.render(shot.ad(habits.EXPIRED_BY_MS.whole(shot.rng)), shot.now), shows=False)


def misdirected(shot: Shot) -> None:
    """Meant for another region's cell."""
    region = pick([name for name in _REGIONS if name != shot.region], shot.rng)
    shot.send(shot.render(shot.ad(region=region), shot.now), shows=False)


DEEDS: tuple[Deed, ...] = (
    Deed("retry", Span(0.006, 0.016), retry),
    Deed("duplicate", Span(0.007, 0.021), duplicate),
    Deed("conflict", Span(0.0002, 0.0011), conflict),
    Deed("reused_id", Span(0.0001, 0.0007), reused_id),
    Deed("replayed", Span(0.0007, 0.0029), replayed),
    Deed("prefetched", Span(0.009, 0.037), prefetched),
    Deed("loaded", Span(0.013, 0.043), loaded),
    Deed("late", Span(0.002, 0.009), late),
    Deed("incomplete", Span(0.004, 0.014), incomplete),
    Deed("in_background", Span(0.001, 0.004), in_background),
    Deed("malformed", Span(0.0006, 0.0019), malformed),
    Deed("forged", Span(0.0006, 0.0023), forged),
    Deed("expired", Span(0.0003, 0.0009), expired),
    Deed("misdirected", Span(0.0002, 0.0008), misdirected),
)
PLAYS: dict[str, Play] = {deed.name: deed.play for deed in DEEDS} | {"plain": plain, "double_fire": double_fire}
