"""What holds in every cut of a report, whatever happened, as known at any position: before any table is asked."""

import pytest
from builders import a_correction, a_token, admit
from deskkit import commits_of
from histories import scattered
from hypothesis import given
from hypothesis import strategies as st
from reportkit import (
    COUNTS,
    STANDING,
    by_fold,
    by_increments,
    coarser,
    cut_dimensions,
    identity_holds,
    ledgers,
    of,
)

from domain.reasons import Reason
from projections.vocabulary import Dimension

pytestmark = pytest.mark.slow


@given(commits=ledgers(scattered), dimensions=cut_dimensions, data=st.data())
def test_gross_is_net_and_invalid_and_undecided_in_every_cut_at_every_position(commits, dimensions, data):
    known = commits[: data.draw(st.integers(0, len(commits)))]
    for totals in (by_increments(known, dimensions), by_fold(known, dimensions)):
        for cut, total in totals.items():
            assert identity_holds(total), cut
            assert min(total.values()) > 0


@given(commits=ledgers(scattered), dimensions=cut_dimensions, data=st.data())
def test_increments_add_up_to_where_the_impressions_stand_in_every_cut(commits, dimensions, data):
    known = commits[: data.draw(st.integers(0, len(commits)))]
    moved = not set(STANDING).isdisjoint(dimensions)
    names = [name for name in COUNTS if name != "duplicate_renders" or not moved]
    assert of(by_increments(known, dimensions), names) == of(by_fold(known, dimensions), names)


@given(commits=ledgers(scattered), dimensions=cut_dimensions, data=st.data())
def test_a_finer_cut_adds_up_to_the_coarser_one(commits, dimensions, data):
    fewer = tuple(one for one in dimensions if data.draw(st.booleans()))
    for totals_by in (by_increments, by_fold):
        assert coarser(totals_by(commits, dimensions), dimensions, fewer) == totals_by(commits, fewer)


@given(commits=ledgers(scattered), dimensions=cut_dimensions)
def test_reasons_add_up_to_their_class_in_every_cut(commits, dimensions):
    for total in by_fold(commits, dimensions).values():
        for cls in ("givt", "sivt", "undecided", "not_counted", "policy"):
            assert total[cls] == sum(value for name, value in total.items() if name.startswith(f"{cls}."))
        assert total["expired"] <= total["undecided"]


def test_a_cut_that_everything_was_corrected_out_of_is_empty():
    commits = commits_of([admit(token=a_token()), a_correction(Reason.RISK_HIGH)])
    by_reason = by_increments(commits, (Dimension.REASON,))
    assert by_reason == {("RISK_HIGH",): {"gross": 1, "sivt": 1}}
