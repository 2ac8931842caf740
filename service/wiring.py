"""Where the parts meet: builds what a process needs from its settings."""

from commands.gate_postgres import PostgresHolding, PostgresHoldingElsewhere
from commands.ledger_tails import LedgerTails, MemoryTails
from commands.ledger_tails_postgres import PostgresTails
from commands.quarantine import HoldingStore
from domain.pack import Pack
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.postgres_connection import PostgresConnection
from ledger.store import EventStore
from ml.lists.live import LiveLists
from ml.lists.packaged import packaged, packaged_date_ms
from ml.lists.screen_lists import Lists
from service import packs
from service.embedded_postgres import PostgresServer
from service.embedded_valkey import ValkeyServer
from service.settings import EMBEDDED, Settings

_DEADLINE_S = 5.0


class ScreenLists(LiveLists):
    """The packaged lists, behind the port that intake knows; `service/lists_open.py` opens those of the settings."""

    def __init__(self) -> None:
        super().__init__(Lists(packaged()), refreshed_ms=packaged_date_ms(), is_refreshed=False)


def ledger_url(settings: Settings) -> str:
    """Return the event store's address; the embedded one's is known before it runs."""
    return PostgresServer(settings.data_dir).url if settings.ledger_url == EMBEDDED else settings.ledger_url


def database_url(settings: Settings) -> str:
    """Return the address of the operational tables: the ledger's database, if it has one, unless another is named."""
    if settings.database_url != EMBEDDED:
        return settings.database_url
    url = ledger_url(settings)
    return url if _is_postgres(url) else PostgresServer(settings.data_dir).url


def broker_url(settings: Settings) -> str:
    """Return the address of the message broker; the embedded one's is known before it runs."""
    return ValkeyServer(settings.data_dir).url if settings.broker_url == EMBEDDED else settings.broker_url


def postgres_urls(settings: Settings) -> set[str]:
    """Return the addresses of all databases in PostgreSQL."""
    return {url for url in (ledger_url(settings), database_url(settings)) if _is_postgres(url)}


def embeds_postgres(settings: Settings) -> bool:
    """Tell whether the ledger or the operational tables lie in the embedded PostgreSQL."""
    return PostgresServer(settings.data_dir).url in postgres_urls(settings)


def open_store(settings: Settings) -> EventStore:
    """Return the event store that the settings name; it connects when it is first asked."""
    url = ledger_url(settings)
    if url == "memory":
        return MemoryStore()
    if _is_postgres(url):
        return PostgresStore(url)
    # gRPC costs 80 ms and 11 MB; whoever does not use it, does not load it.
    from ledger.eventstoredb import EventStoreDbStore  # noqa: PLC0415
    from ledger.eventstoredb_address import SEGMENTS, read_address  # noqa: PLC0415
    from ledger.segments import open_segments  # noqa: PLC0415

    if read_address(url).layout == SEGMENTS:
        return open_segments(url, database_url(settings))
    return EventStoreDbStore(url)


def open_tails(store: EventStore, url: str) -> LedgerTails:
    """Return what follows *store*, whose address is *url*, by position; to be closed by whoever opens it."""
    if isinstance(store, MemoryStore):
        return MemoryTails(store)
    if _is_postgres(url):
        return PostgresTails(PostgresConnection(url, _DEADLINE_S))
    from commands.ledger_tails_eventstoredb import EventStoreDbTails  # noqa: PLC0415
    from commands.ledger_tails_segments import SegmentTails  # noqa: PLC0415
    from ledger.eventstoredb import EventStoreDbStore  # noqa: PLC0415
    from ledger.segments import SegmentStore  # noqa: PLC0415

    if isinstance(store, EventStoreDbStore):
        return EventStoreDbTails(store)
    if isinstance(store, SegmentStore):
        return SegmentTails(store)
    raise TypeError(f"nothing follows a {type(store).__name__}")


def open_holding(store: EventStore, url: str, connection: PostgresConnection) -> HoldingStore:
    """Return where unreadable renders and early views are kept, beside the ledger *store* at *url*."""
    return PostgresHolding(connection) if _is_postgres(url) else PostgresHoldingElsewhere(connection, store)


def _is_postgres(url: str) -> bool:
    return url.startswith("postgres")


def load_pack(name: str) -> Pack:
    """
    Return the rule pack *name*: an id that ships with the program, or a path to a TOML file.

    Raises:
        PackError: there is none, or it has an error.
    """
    return packs.load(name)
