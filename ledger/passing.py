"""A ledger that traffic runs through: commits are taken out as they come, and streams are let go when they are old."""

from collections import OrderedDict

from ledger.memory import MemoryStore
from ledger.store import Append, Commit, Outcome, StreamId


class PassingStore(MemoryStore):
    """
    Streams last until they are *kept_ms* old, by the times of appends, and then as if they had never been.

    So *kept_ms* has to be more than anybody waits before coming back to one. `read_all` has what was not taken yet.
    """

    def __init__(self, kept_ms: int) -> None:
        super().__init__()
        self._kept_ms = kept_ms
        self._last: OrderedDict[StreamId, int] = OrderedDict()

    def take(self) -> list[Commit]:
        """Return the commits since the last call, in order of position."""
        taken, self._log = self._log, []
        return taken

    def _append(self, append: Append, recorded_at: int) -> Outcome:
        outcome = super()._append(append, recorded_at)
        if not isinstance(append.stream, str):
            self._last[append.stream] = recorded_at
            self._last.move_to_end(append.stream)
            self._let_go(recorded_at - self._kept_ms)
        return outcome

    def _let_go(self, before: int) -> None:
        while self._last:
            stream, last = next(iter(self._last.items()))
            if last >= before:
                return
            del self._last[stream]
            for commit in self._streams.pop(stream, ()):
                del self._causes[stream, commit.cause]
