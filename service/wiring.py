"""Where the parts meet: builds what a process needs from its settings."""

from importlib.resources import files

from domain.pack import Pack, PackError, parse_pack
from domain.vocabulary import AgentClass, NetworkClass
from ledger.memory import MemoryStore
from ledger.postgres import PostgresStore
from ledger.store import EventStore
from ml.lists.agents import AgentLists
from ml.lists.networks import NetworkLists
from service.embedded_postgres import PostgresServer
from service.settings import EMBEDDED, Settings


class ScreenLists:
    """The lists that the screen asks, behind the port that intake knows."""

    def __init__(self) -> None:
        self._agents = AgentLists()
        self._networks = NetworkLists()
        self.version = f"{self._agents.version} + {self._networks.version}"

    def agent(self, agent: str | None) -> AgentClass:
        return self._agents.classify(agent)

    def network(self, address: str | None) -> NetworkClass:
        return self._networks.classify(address)


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
    return MemoryStore() if settings.ledger_url == "memory" else PostgresStore(ledger_url(settings))


def load_pack(name: str) -> Pack:
    """
    Return the rule pack *name* of those that ship with the program.

    Raises:
        PackError: there is none, or it has an error.
    """
    source = files("domain") / "packs" / f"{name}.toml"
    if not source.is_file():
        raise PackError(f"no rule pack {name!r} in domain/packs")
    pack = parse_pack(source.read_text(), source.name)
    if pack.name != name:
        raise PackError(f"{source.name}: name: it says {pack.name!r}")
    return pack
