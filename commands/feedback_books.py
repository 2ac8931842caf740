"""Is all feedback where the books say? Compares the books with what is kept and with the labels in the ledger."""

from collections.abc import Iterator, Mapping

from commands.feedback_store import OPEN, FeedbackBooks, FeedbackState, FeedbackStore

_LOOKS_MAX = 10
_EXACT = (FeedbackState.WAITING, FeedbackState.PARKED, FeedbackState.HELD)
"""States that nothing is forgotten of."""


async def lost_feedback(store: FeedbackStore, labels: int) -> list[str]:
    """
    Say what is wrong with feedback, given that so many *labels* of it stand in the ledger.

    Raises:
        LedgerUnavailable: the store did not answer.
    """
    books = await store.books()
    for _ in range(_LOOKS_MAX):
        counted = await store.count()
        before, books = books, await store.books()
        if before == books:  # nothing moved while it was counted
            return list(_flaws(books, counted, labels))
    return ["feedback moves on and on, and cannot be counted"]


def _flaws(books: FeedbackBooks, counted: Mapping[FeedbackState, int], labels: int) -> Iterator[str]:
    if books.unaccounted:
        yield f"{books.unaccounted} of {books.accepted} pieces of feedback are nowhere: {books}"
    for state in FeedbackState:
        in_books, kept = getattr(books, state.value), counted.get(state, 0)
        if kept > in_books or (state in _EXACT and kept < in_books):
            yield f"feedback {state.value}: {in_books} in the books, {kept} kept"
    remembered = counted.get(FeedbackState.APPLIED, 0)
    under_way = sum(counted.get(state, 0) for state in OPEN)
    if not remembered <= labels <= books.applied + under_way:
        yield f"{labels} labels of feedback in the ledger, {books.applied} applied, {under_way} under way"
