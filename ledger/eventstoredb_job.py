"""One append on its way: what is sent where, and what came of it."""

from typing import Any

from ledger.eventstoredb_client import append_request
from ledger.eventstoredb_layout import Names, drafts, nonce
from ledger.eventstoredb_look import Look, Place
from ledger.store import AlreadyAppended, Append, Appended, Conflict, Outcome

_APPENDED = Appended()
_INDEX_BITS = 16


class Job:
    """
    An append until it has its `outcome`.

    `doubt`: its stream must be read before it is sent. `refused`: the server said that the stream stands otherwise.
    `company`: a call ended under it, and it may be why: at most so many go in a call of their own; None: it may not.
    """

    __slots__ = ("append", "company", "doubt", "drafts", "nonce", "outcome", "place", "refused")

    def __init__(self, append: Append, recorded_at: int) -> None:
        self.append = append
        self.drafts = drafts(append, recorded_at)
        self.nonce = nonce()
        self.place = Place()
        self.outcome: Outcome | None = None
        self.doubt = append.expected != 0
        self.refused = False
        self.company: int | None = None

    def result(self) -> Outcome:
        assert self.outcome is not None, "every append ends with an outcome or an error"
        return self.outcome

    def request(self, names: Names) -> Any:
        name = names.of(self.append.stream, self.place.segment)
        return append_request(name, self.place.revision, self.nonce, self.drafts)

    def written(self) -> Place:
        """Take it as written; return where its stream goes on."""
        self.outcome = _APPENDED
        return Place(self.append.expected + len(self.append.events), self.place.segment, self.place.base)

    def give_up(self) -> None:
        """Leave it to whoever reads the stream next: nothing can be appended to it any more."""
        self.outcome = Conflict(self.place.next)

    def judge(self, look: Look) -> None:
        """Decide by what stands in the stream, as far as that decides it."""
        if look.found is not None:
            if look.found_id >> _INDEX_BITS == self.nonce >> _INDEX_BITS:
                self.outcome = _APPENDED
            elif look.found.digest == self.append.digest:
                self.outcome = AlreadyAppended(look.found)
            else:
                self.outcome = Conflict(look.place.next)
        elif look.place.next != self.append.expected or not look.is_readable:
            self.outcome = Conflict(look.place.next)
        self.place = look.place
