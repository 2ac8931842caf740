"""Opens the lists that the settings name, and keeps each version that was in force."""

from pathlib import Path

import structlog

from ml.lists import snapshots
from ml.lists.folder import read_folder
from ml.lists.live import DAY_MS, STALE_AFTER_DAYS, LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.readers import ListsRefused
from ml.lists.screen_lists import Lists
from ml.lists.sources import Sources
from service.settings import Settings

PACKAGED, CURRENT = "packaged", "current"

log = structlog.get_logger()


def kept_lists(settings: Settings) -> Path:
    """Return the folder with every version of the lists that was in force here."""
    return settings.data_dir / "lists"


def open_lists(settings: Settings) -> LiveLists:
    """
    Return the lists to decide with: the folder's; the last good ones if it cannot be used; else the packaged ones.

    A spoilt folder does not keep a gate from starting: a typing error must not turn a restart into an outage.
    """
    if not settings.lists_dir:
        return _live(settings, packaged(), packaged_date_ms(), is_refreshed=False)
    try:
        found = read_folder(Path(settings.lists_dir), packaged())
    except ListsRefused as refused:
        log.error(  # noqa: TRY400 (the reason is in the facts; there is nothing to trace)
            "lists refused", file=refused.file, line=refused.line, reason=refused.reason
        )
        last = snapshots.last_in_force(kept_lists(settings)) or (packaged(), packaged_date_ms())
        return _live(settings, *last, is_refreshed=True)
    return _live(settings, found.sources, found.refreshed_ms or packaged_date_ms(), is_refreshed=True)


def lists_state(settings: Settings, now_ms: int) -> tuple[bool, str]:
    """Say whether the lists of *settings* can be used and are current, and what they are."""
    if not settings.lists_dir:
        age = (now_ms - packaged_date_ms()) / DAY_MS
        return True, f"packaged, clouds of {age:.0f} days ago; IMPLEDGER_LISTS_DIR keeps them up to date"
    try:
        found = read_folder(Path(settings.lists_dir), packaged())
    except ListsRefused as refused:
        return False, str(refused)
    if found.refreshed_ms is None:
        return False, f"{settings.lists_dir} has no list; the packaged ones decide"
    age = (now_ms - found.refreshed_ms) / DAY_MS
    return age <= STALE_AFTER_DAYS, f"{found.sources.version}, refreshed {age:.1f} days ago"


def named_sources(settings: Settings, name: str) -> Sources:
    """
    Return the lists that *name* means: `packaged`, `current` (as the settings say), a folder, or a version kept here.

    Raises:
        ListsRefused: there are none, or they cannot be used.
    """
    if name == PACKAGED or (name == CURRENT and not settings.lists_dir):
        return packaged()
    if name == CURRENT:
        return read_folder(Path(settings.lists_dir), packaged()).sources
    if snapshots.VERSION.fullmatch(name):
        return packaged() if name == packaged().version else snapshots.load(kept_lists(settings), name)
    return read_folder(Path(name), packaged()).sources


def keep_version(settings: Settings, sources: Sources, refreshed_ms: int) -> None:
    """Keep *sources* as the last in force; where that cannot be done, say so and go on."""
    try:
        snapshots.keep(kept_lists(settings), sources, refreshed_ms)
    except OSError as error:
        log.warning("version of the lists not kept", version=sources.version, error=error.strerror)


def _live(settings: Settings, sources: Sources, refreshed_ms: int, *, is_refreshed: bool) -> LiveLists:
    keep_version(settings, sources, refreshed_ms)
    return LiveLists(Lists(sources), refreshed_ms=refreshed_ms, is_refreshed=is_refreshed)
