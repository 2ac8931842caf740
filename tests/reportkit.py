"""What a report must say, made without any table: by the increments, and by the domain's own fold."""

from collections import Counter, defaultdict, deque

from deskkit import commits_of
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.impression import fold
from ledger.codec import decode
from projections.fold import add_to
from projections.reports import DIMENSIONS_MAX
from projections.rows import rows
from projections.vocabulary import Dimension

STANDING = (Dimension.VERDICT, Dimension.REASON, Dimension.REASON_CLASS)
"""Dimensions that a correction moves an impression along; the others are fixed."""
CLASSES = {
    "": "net",
    "givt": "givt",
    "sivt": "sivt",
    "undecided": "undecided",
    "duplicate": "duplicates",
    "not_counted": "not_counted",
    "policy": "policy",
}
COUNTS = ("gross", *CLASSES.values(), "duplicate_renders", "billable_micros", "reserved_micros")

cut_dimensions = st.builds(
    lambda order, size: tuple(order[:size]),
    st.permutations(list(Dimension)),
    st.sampled_from([3, *range(DIMENSIONS_MAX + 1)]),
)


@st.composite
def ledgers(draw, populations):
    """Commits of all histories of a population, in any order that keeps each impression's own."""
    of_stream = defaultdict(deque)
    for commit in commits_of(*draw(populations)):
        of_stream[commit.stream].append(commit)
    order = draw(st.permutations([stream for stream, commits in of_stream.items() for _ in commits]))
    return [replace(of_stream[stream].popleft(), position=position) for position, stream in enumerate(order, 1)]


def identity_holds(total):
    return total["gross"] == total["net"] + total["givt"] + total["sivt"] + total["undecided"]


def by_increments(commits, dimensions):
    """Return what the increments of *commits* add up to, cut -> column -> sum."""
    totals = defaultdict(Counter)
    for commit in commits:
        for fact in rows(commit):
            total = totals[tuple(getattr(fact, dimension) for dimension in dimensions)]
            total[CLASSES[fact.reason_class]] += fact.sign
            for name in ("gross", "duplicate_renders", "billable_micros", "reserved_micros"):
                total[name] += getattr(fact, name)
    return without_zeros(totals)


def by_fold(commits, dimensions):
    """Return how many impressions stand in each cut, cut -> column -> sum; repeats count where they stand last."""
    of_stream = defaultdict(list)
    for commit in commits:
        of_stream[commit.stream] += decode(commit.data)
    totals = defaultdict(Counter)
    for events in of_stream.values():
        state = fold(events)
        add_to(totals[tuple(_value(state, dimension) for dimension in dimensions)], state)
    return without_zeros(totals)


def without_zeros(totals):
    kept = {cut: {name: value for name, value in total.items() if value} for cut, total in totals.items()}
    return {cut: Counter(total) for cut, total in kept.items() if total}


def of(totals, names):
    """Return *totals* with the columns *names* alone."""
    return without_zeros({cut: {name: total[name] for name in names} for cut, total in totals.items()})


def coarser(totals, dimensions, fewer):
    """Return *totals* by *dimensions* added up to a cut by *fewer* of them."""
    kept = [dimensions.index(dimension) for dimension in fewer]
    added = defaultdict(Counter)
    for cut, total in totals.items():
        added[tuple(cut[index] for index in kept)].update(total)
    return without_zeros(added)


def _value(state, dimension):
    if dimension in STANDING:
        value = getattr(state.standing, dimension)
        return "" if value is None else value.value
    value = getattr(state.cut, dimension)
    return value if isinstance(value, bool) else str(value)
