"""
One batch on its way: the renders of each impression in it, who has their turn in a round, and which renders are news.

What is looked at together is appended together, and in the order in which it was looked at: docs/decisions/0036.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from commands.activity import Conduct
from commands.budget_purse import Grant
from commands.items import Answer, Malformed, Ready, Slot
from commands.recent import FirstAnswer, RecentSlots, Shown, shown
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId
from domain.impression import Decided, Impression, Unseen, adds_to, counts_again, lacks_proof
from domain.reasons import PRECEDENCE, Reason
from domain.render import Kind
from domain.vocabulary import Rung
from ledger.store import Append


class Group(Struct, gc=False):
    """
    The renders of one impression in one batch, and what came of them; `shown` are those that put it in gross.

    `is_recalled`: its state is out of memory, from where it is taken at most once.
    """

    impression: ImpressionId
    members: list[tuple[int, Ready]]
    must_read: bool
    is_recalled: bool = False
    may_recall: bool = True
    version: int = 0
    state: Impression = Unseen()
    events: tuple[ImpressionEvent, ...] = ()
    first: FirstAnswer | None = None
    shown: tuple[Ready, ...] = ()
    rendered: tuple[ImpressionRendered, ...] = ()
    grants: tuple[Grant, ...] = ()
    unmoved: int = 0
    repeats: list[tuple[Reason, int]] = []


class Batch(Struct):
    """
    One batch on its way: answers by place, what is still open by impression, what is to be counted or kept aside.

    `now` (epoch ms) is when it is decided; what is no news comes out of a spool.
    """

    now: int
    answers: list[Answer | None]
    is_news: bool = True
    open: dict[int, Group] = {}
    sent: Sequence[Append] = ()
    refused: dict[Reason, int] = {}
    unmoved: int = 0
    repeats: Counter[tuple[ImpressionId, Reason]] = msgspec.field(default_factory=Counter)
    quarantine: list[tuple[int, Malformed]] = []
    early: list[tuple[int, Ready]] = []
    conduct: dict[int, Conduct] = {}
    rungs: tuple[Rung, ...] = ()
    is_begun: bool = False

    @property
    def uncounted(self) -> bool:
        return bool(self.refused or self.unmoved or self.repeats)


def in_turn(batch: Batch, slots: RecentSlots) -> list[Group]:
    """
    Return the groups to decide in this round.

    In the first one, what may be a double fire of another group waits for it: so what is looked at together is
    appended together.
    """
    groups = list(batch.open.values())
    if batch.is_begun:
        return groups
    places = [slot for group in groups for _, item in group.members for slot in item.slots]
    if len(set(places)) == len(places):
        return groups
    turn: list[Group] = []
    near: dict[Slot, list[Shown]] = {}
    for group in groups:
        if not near or not waits(group, near, slots):
            turn.append(group)
            show([item for _, item in group.members], near)
    return turn


def waits(group: Group, fresh: dict[Slot, list[Shown]], slots: RecentSlots) -> bool:
    """A double fire of an impression in the same batch waits until that one, of those in *fresh*, is durable."""
    for _, item in group.members:
        for slot in item.slots:
            if slot in fresh and slots.near(item, fresh[slot]) is not None:
                return True
    return False


def news(group: Group, slots: RecentSlots) -> list[tuple[int, Ready]]:
    """Return the renders of *group* that may add one to its stream; a repeat does not, and is nobody's activity."""
    state, members = group.state, group.members
    is_first = isinstance(state, Unseen)
    if len(members) == 1 and is_first:
        return members if members[0][1].kind is Kind.RENDER else []
    is_open = isinstance(state, Decided) and (counts_again(state) or lacks_proof(state))
    standing = state.first.reason if isinstance(state, Decided) and is_open else None
    found: list[tuple[int, Ready]] = []
    for at, item in members:
        if item.kind is Kind.RENDER and (is_first or adds_to(standing, item.claim, item.reasons)):
            found.append((at, item))
            is_first, standing = False, _leading(item, slots)
    return found


def number(group: Group) -> int:
    """In this order the ledger has what is appended in one call."""
    return group.impression.int


def show(items: Iterable[Ready], slots: dict[Slot, list[Shown]]) -> None:
    """Add *items* to those that were shown in each of *slots*."""
    for item in items:
        for slot in item.slots:
            slots.setdefault(slot, []).append(shown(item))


def _leading(item: Ready, slots: RecentSlots) -> Reason | None:
    """Return the first reason against *item* that is known before it is looked at."""
    reasons = item.reasons if slots.original_of(item) is None else (*item.reasons, Reason.DOUBLE_FIRE)
    return min(reasons, key=PRECEDENCE.__getitem__, default=None)
