"""Where the parts meet: builds what a process needs from its settings."""

from domain.pack import Pack
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.store import EventStore
from ml.lists.live import LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.screen_lists import Lists
from service import packs
from service.embedded_postgres import PostgresServer
from service.settings import EMBEDDED, Settings


class ScreenLists(LiveLists):
    """The packaged lists, behind the port that intake knows; `service/lists_open.py` opens those of the settings."""

    def __init__(self) -> None:
        super().__init__(Lists(packaged()), refreshed_ms=packaged_date_ms(), is_refreshed=False)


def ledger_url(settings: Settings) -> str:
    """Return the event store's address; the embedded one's is known before it runs."""
    return PostgresServer(settings.data_dir).url if settings.ledger_url == EMBEDDED else settings.ledger_url


def database_url(settings: Settings) -> str:
    """Return the address of the operational tables: the ledger's database unless another is named."""
    if settings.database_url != EMBEDDED:
        return settings.database_url
    return PostgresServer(settings.data_dir).url if settings.ledger_url in {EMBEDDED, "memory"} else settings.ledger_url


def open_store(settings: Settings) -> EventStore:
    """Return the event store that the settings name; it connects when it is first asked."""
    url = ledger_url(settings)
    if url == "memory":
        return MemoryStore()
    if not url.startswith("esdb"):
        return PostgresStore(url)
    # gRPC costs 80 ms and 11 MB; whoever does not use it, does not load it.
    from ledger.eventstoredb import EventStoreDbStore  # noqa: PLC0415
    from ledger.eventstoredb_address import SEGMENTS, read_address  # noqa: PLC0415
    from ledger.segments import open_segments  # noqa: PLC0415

    if read_address(url).layout == SEGMENTS:
        return open_segments(url, _index_url(settings))
    return EventStoreDbStore(url)


def _index_url(settings: Settings) -> str:
    """Return where the index of a ledger in segments is: with the operational tables."""
    url = database_url(settings)
    return PostgresServer(settings.data_dir).url if url.startswith("esdb") else url


def load_pack(name: str) -> Pack:
    """
    Return the rule pack *name*: an id that ships with the program, or a path to a TOML file.

    Raises:
        PackError: there is none, or it has an error.
    """
    return packs.load(name)
