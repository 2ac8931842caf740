"""What a worked case of docs/requirements.md comes to when the rules run it."""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from builders import (
    MINTED,
    PACK,
    SECOND,
    Given,
    Turn,
    a_claim,
    a_correction,
    a_label,
    a_render,
    a_reprice,
    a_token,
    a_view,
    admit,
    an_expiry,
    event_names,
)
from case_language import NONE, SUMS, CaseError, Step, read_story
from msgspec.structs import replace

from domain.decide import AttachLabel, Command, Reconcile, RecordView
from domain.events import ImpressionDeduped, ImpressionLabelled, ImpressionReconciled, ImpressionViewed
from domain.impression import Decided, Impression, Unseen
from domain.reasons import ReasonClass, Verdict
from domain.render import Render
from domain.screen import REQUEST_REASONS, screen
from domain.standing import Standing, Uncertain, in_gross
from domain.vocabulary import AgentClass, Format, NetworkClass

_CLAIMS = ("creative", "placement", "publisher", "surface", "format")


class Told(NamedTuple):
    """What one step came to. Only renders are answered provisionally or not."""

    turn: Turn
    answer: str
    provisional: str = NONE


def outcome_of(case: Mapping[str, str]) -> dict[str, str]:
    """Run *case* and return its row as the rules make it."""
    story = Story()
    for step in read_story(case["given"]):
        if story.tell(step).turn.refusal is not None:
            raise CaseError(f"what is given is refused: {step}")
    steps = read_story(case["when"])
    if len(steps) != 1 or steps[0].verb == "ad":
        raise CaseError(f"one thing happens at a time: {case['when']}")
    told = story.tell(steps[0])
    standing = told.turn.after.standing if isinstance(told.turn.after, Decided) else None
    viewability = standing.viewability if standing else {}
    sums = _changes(told.turn)
    return {
        **{name: case[name] for name in ("case", "given", "when")},
        "answer": told.answer,
        "events": " ".join(event_names(told.turn.events)) or NONE,
        "standing": _standing(standing),
        **{name: f"{sums[name]:+d}" if sums[name] else "0" for name in SUMS},
        "billable_micros": str(standing.billable_micros if standing else 0),
        "reserved_micros": str(standing.reserved_micros if standing else 0),
        "views": " ".join(f"{pack}={view}" for pack, view in sorted(viewability.items())) or NONE,
        "provisional": told.provisional,
    }


def counted_as(standing: Standing | None) -> dict[str, int]:
    """Return what one impression that stands so adds to each sum."""
    if standing is None:
        return dict.fromkeys(SUMS, 0)
    return {
        "gross": int(in_gross(standing)),
        "net": int(standing.verdict is Verdict.VALID),
        "givt": int(standing.reason_class is ReasonClass.GIVT),
        "sivt": int(standing.reason_class is ReasonClass.SIVT),
        "undecided": int(standing.reason_class is ReasonClass.UNDECIDED),
    }


class Story:
    """What has happened to one ad instance so far; time is ms since it was minted."""

    def __init__(self) -> None:
        self._token = a_token()
        self._state: Impression = Unseen()
        self._now = 0
        self._steps: dict[str, tuple[Step, Command | Render]] = {}

    def tell(self, step: Step) -> Told:
        """Let *step* happen."""
        if step.verb == "ad":
            if self._steps:
                raise CaseError("the ad stands first")
            self._token = replace(self._token, **step.words)
            return Told(Turn(self._state, (), self._state), NONE)
        self._now = step.words.get("at", self._now + SECOND)
        told = self._again(step) if step.verb == "again" else self._first(step)
        self._state = told.turn.after
        return told

    def _first(self, step: Step) -> Told:
        name = step.words.get("id", f"step {len(self._steps) + 1}")
        cause = UUID(bytes=name.encode().rjust(16, b"\0"))
        now = MINTED + self._now
        is_render = step.verb == "render"
        made = _render(step.words, cause) if is_render else _command(step, cause, now, self._token.format)
        self._steps[name] = step, made
        return self._happens(step, made)

    def _again(self, step: Step) -> Told:
        """The same event arrives once more, later."""
        name = step.words.get("id", f"step {len(self._steps)}")
        if name not in self._steps:
            raise CaseError(f"nothing before is called {name!r}")
        first, made = self._steps[name]
        now = MINTED + self._now
        match made:
            case Render():
                made = replace(made, attempt=made.attempt + 1)
            case RecordView():
                made = replace(made, received_at=now, decided_at=now)
            case Reconcile():
                made = replace(made, decided_at=now)
            case AttachLabel():
                made = replace(made, received_at=now)
        return self._happens(first, made)

    def _happens(self, step: Step, made: Command | Render) -> Told:
        if isinstance(made, Render):
            return self._render(step, made)
        turn = Given(self._state).when(made)
        if turn.refusal is not None:
            return Told(turn, f"refused {turn.refusal}")
        return Told(turn, _answer(turn))

    def _render(self, step: Step, render: Render) -> Told:
        words = step.words
        rendered = a_claim(
            render,
            replace(self._token, **{name: words[name] for name in _CLAIMS if name in words}),
            MINTED + self._now,
            agent_class=words.get("agent", AgentClass.BROWSER),
            network_class=words.get("network", NetworkClass.EYEBALL),
        )
        reasons = screen(rendered, PACK)
        if reasons and reasons[0] in REQUEST_REASONS:
            return Told(Turn(self._state, (), self._state), f"refused {reasons[0]}", "no")
        turn = Given(self._state).when(admit(rendered, also=words.get("also", ())))
        if turn.refusal is not None:
            return Told(turn, f"refused {turn.refusal}", "no")
        answer = turn.after.absorbed[render.event_id]
        said = answer.verdict if answer.reason is None else f"{answer.verdict} {answer.reason}"
        return Told(turn, said, "yes" if answer.verdict is Verdict.UNCERTAIN else "no")


def _answer(turn: Turn) -> str:
    match turn.events:
        case ():
            return "nothing new"
        case (ImpressionReconciled(accepted=accepted),):
            return "in force" if accepted else "kept as evidence"
        case (ImpressionViewed(),):
            return "view moved"
        case (ImpressionLabelled(),):
            return "label kept"
        case other:
            raise AssertionError(f"no single event: {other}")


def _changes(turn: Turn) -> dict[str, int]:
    """What the events add to each sum, as a projection sees it: minus before, plus after."""
    sums = dict.fromkeys(SUMS, 0)
    for event in turn.events:
        if isinstance(event, ImpressionDeduped | ImpressionViewed | ImpressionReconciled):
            before, after = counted_as(event.before), counted_as(event.after)
            sums = {name: sums[name] + after[name] - before[name] for name in SUMS}
    return sums


def _standing(standing: Standing | None) -> str:
    if standing is None:
        return "unseen"
    words = [standing.verdict]
    if standing.reason is not None:
        words += [standing.reason_class, standing.reason]
    if isinstance(standing, Uncertain) and standing.expired:
        words.append("expired")
    return " ".join(words)


def _render(words: dict[str, Any], cause: UUID) -> Render:
    """A render; on the screen unless OMID tells how far it came, or it says otherwise."""
    on_screen = words.get("on_screen", "omid" not in words)
    width, height = words.get("size", (300, 250))
    return a_render(
        event_id=cause,
        on_screen_at=MINTED if on_screen else None,
        omid_type=words.get("omid"),
        width=width,
        height=height,
        visible_ratio=words.get("ratio"),
        visible_ms=words.get("visible"),
        **{
            name: MINTED + words[word] for word, name in (("client", "client_at"), ("sent", "sent_at")) if word in words
        },
        **{name: True for name in ("prefetched", "background", "clicked") if name in words},
    )


def _command(step: Step, cause: UUID, now: int, fmt: Format) -> Command:
    words = step.words
    common = {"id_": cause, "observed_at": MINTED + words["observed"] if "observed" in words else now}
    match step.verb:
        case "view":
            width, height = words.get("size", (300, 250))
            return a_view(
                received_at=now,
                id_=cause,
                format=fmt,
                area_px=None if width is None or height is None else width * height,
                visible_ratio=words.get("ratio"),
                visible_ms=words.get("visible"),
                duration_ms=words.get("duration"),
                clicked="clicked" in words,
            )
        case "correct":
            return a_correction(
                words["to"], words["by"], decided_at=now, original_is_out="original_out" in words, **common
            )
        case "reprice":
            return a_reprice(words["to"], words["by"], decided_at=now, **common)
        case "expire":
            return an_expiry(now, id_=cause)
        case "label":
            return a_label(words["from"], words["says"], words["weight"], at=now, id_=cause)
        case _:
            raise CaseError(f"{step.verb!r} is no command")
