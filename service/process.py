"""What every long-lived process does first and last: settings, memory, logs, caches; then its loop."""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.settings import Settings

GIVES_WAY = {"desk": 5, "work": 10, "scheduler": 10}
"""By how much a process is nicer than the gate (nice(2)): an answer comes first, then what is shown, then the rest."""


def begin(name: str) -> Settings:
    """Read the settings of a long-lived process and set up its priority, memory, logs and caches."""
    from service.allocator import keep_memory  # noqa: PLC0415 (each command loads what it needs)
    from service.compiled import keep_compiled  # noqa: PLC0415
    from service.folders import make_data_dir  # noqa: PLC0415
    from service.logs import set_up_logs  # noqa: PLC0415

    keep_memory()
    _give_way(GIVES_WAY.get(name, 0))
    settings = Settings.from_env(os.environ)
    make_data_dir(settings.data_dir)
    keep_compiled(settings.data_dir)
    set_up_logs(name, settings.log_json)
    return settings


def _give_way(nicer: int) -> None:
    """Linux groups processes by session, and then weighs groups, not processes (sched(7))."""
    os.nice(nicer)
    group = Path("/proc/self/autogroup")
    with suppress(OSError):
        group.write_text(str(nicer))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run *work* on uvloop where there is one."""
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415

        return uvloop.run(work)
    return asyncio.run(work)
