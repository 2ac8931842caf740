"""What time it is."""

import time


def now_ms() -> int:
    """Return the time in epoch ms."""
    return time.time_ns() // 1_000_000
