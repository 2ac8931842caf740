"""A ledger that traffic runs through: commits are taken out as they come, and streams are let go when they are old."""

from collections import OrderedDict

from ledger.memory import MemoryStore
from ledger.store import Append, Commit, Outcome, StreamId


class PassingStore(MemoryStore):
    """
    What is taken out is forgotten: the commits at once, their streams once nothing was appended to them for *kept_ms*.

    So *kept_ms*, by the times of appends, has to be more than anybody waits before coming back to an impression.
    `read_all` has what was not taken yet.
    """

    def __init__(self, kept_ms: int) -> None:
        super().__init__()
        self._kept_ms = kept_ms
        self._now = 0
        self._last: OrderedDict[StreamId, int] = OrderedDict()

    def take(self) -> list[Commit]:
        """Return the commits since the last call, in order of position, and let go of streams that are old."""
        taken, self._log = self._log, []
        before = self._now - self._kept_ms
        while self._last:
            stream, last = next(iter(self._last.items()))
            if last >= before:
                break
            del self._last[stream]
            for commit in self._streams.pop(stream, ()):
                del self._causes[stream, commit.cause]
        return taken

    def _append(self, append: Append, recorded_at: int) -> Outcome:
        outcome = super()._append(append, recorded_at)
        if not isinstance(append.stream, str):
            self._now = recorded_at
            self._last[append.stream] = recorded_at
            self._last.move_to_end(append.stream)
        return outcome
