"""
What is known of the clocks of devices: how far each is behind ours, from events that say when they were sent.

An event that does not say so is corrected by what the device's others showed.
"""

from collections.abc import Sequence

from commands.recent import Recent
from domain.events import ImpressionEvent, ImpressionRendered
from domain.ids import ImpressionId

SAMPLES = 5
"""Offsets remembered per device. The way to us only adds to one, so the least of them is nearest to the truth."""
NEGLIGIBLE_MS = 2_000
"""A device whose clock never showed more than this needs no correction and takes no room."""


class DeviceClocks:
    """Offsets of recent devices, by pseudonym; bounded by *limit* devices. Learning one twice changes nothing."""

    def __init__(self, limit: int) -> None:
        self._offsets = Recent[str, tuple[int, ...]](limit)

    def offset_ms(self, device: str) -> int | None:
        """Return what is to be added to a time of *device*, None if nothing is known of its clock."""
        offsets = self._offsets.get(device)
        return None if offsets is None else min(offsets)

    def learn(self, device: str, sent_at: int, received_at: int) -> None:
        """Note that *device* showed *sent_at* when it sent what came at *received_at* (epoch ms)."""
        offset = received_at - sent_at
        known = self._offsets.get(device) or ()
        if not known and (not device or abs(offset) < NEGLIGIBLE_MS):
            return
        if offset not in known:
            self._offsets.put(device, (*known[1 - SAMPLES :], offset))

    def recall(self, _: ImpressionId, events: Sequence[ImpressionEvent]) -> None:
        """Learn from one commit of the ledger."""
        for event in events:
            if isinstance(event, ImpressionRendered) and event.sent_at is not None:
                self.learn(event.device, event.sent_at, event.received_at)
