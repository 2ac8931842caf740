"""Settings: `IMPLEDGER_*` environment variables, read once from a mapping, all errors at once."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from domain.serves import parse_ttl
from ml.registry.guards import parse_limits

PREFIX = "IMPLEDGER_"
EMBEDDED = "embedded"
_MEMORY = "memory"
LEDGERS = (_MEMORY, "postgresql", "esdb", "esdb+discover")
BROKERS = ("redis", "rediss", "unix", "amqp", "amqps")
PORTS = ("gate_port", "desk_port", "clickhouse_port", "work_port", "scheduler_port")
_HOST = re.compile(r"[\w.:%-]+", re.ASCII)
_SECRET = re.compile(r"(?<=//).*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE | re.DOTALL)


class SettingsError(ValueError):
    """One or more settings are wrong; `problems` has a sentence for each, `usable` what is right and else defaults."""

    def __init__(self, problems: list[str], usable: "Settings") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.usable = usable


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be configured. Field `x_y` is the variable `IMPLEDGER_X_Y`."""

    data_dir: Path = field(default=Path("impledger-data"), metadata={"doc": "Where embedded engines and keys live."})
    region: str = field(default="eu", metadata={"doc": "Region that this cell owns; tokens of another one get 421."})
    cell: str = field(default="", metadata={"doc": "Name of this cell in the cell map; a gate with a map needs it."})
    cell_map: str = field(
        default="",
        metadata={"doc": "File of the cell map (docs/cells.md); empty: this cell owns all of its region."},
    )
    shelter_trust: str = field(
        default="",
        metadata={
            "doc": "File of keys trusted for sheltering (docs/cells.md); empty: other regions' renders always get 421."
        },
    )
    shelter_events_max: int = field(
        default=1_000_000, metadata={"doc": "Most events of other regions that wait here; more get 503."}
    )
    shelter_bytes_max: int = field(
        default=4_294_967_296, metadata={"doc": "Most bytes of other regions' events that wait here; more get 503."}
    )
    shelter_ttl_h: int = field(
        default=168, metadata={"doc": "Hours after which a sheltered event is deleted if its home never took it."}
    )
    host: str = field(default="127.0.0.1", metadata={"doc": "Address that gate and desk listen on."})
    gate_port: int = field(default=8410, metadata={"doc": "Port of the write API."})
    desk_port: int = field(default=8420, metadata={"doc": "Port of the read API."})
    clickhouse_port: int = field(
        default=8423, metadata={"doc": "Loopback port on which the desk serves embedded ClickHouse, read-only."}
    )
    work_port: int = field(default=8430, metadata={"doc": "Port on which a work process tells health and metrics."})
    scheduler_port: int = field(default=8431, metadata={"doc": "The same of a scheduler."})
    ledger_url: str = field(
        default=EMBEDDED,
        metadata={"doc": "Event store: `embedded`, `memory`, `postgresql://` or `esdb://` (docs/eventstoredb.md)."},
    )
    database_url: str = field(
        default=EMBEDDED,
        metadata={
            "doc": "Operational tables: `embedded` or `postgresql://`. Default: the ledger's, where that is PostgreSQL."
        },
    )
    clickhouse_dsn: str = field(
        default=EMBEDDED, metadata={"doc": "Projections: `embedded` (chDB in the data folder), `chdb://` or `http://`."}
    )
    broker_url: str = field(
        default=EMBEDDED,
        metadata={"doc": "Message broker: `embedded` (Valkey), `redis://`, or `amqp://` (docs/feedback.md)."},
    )
    rule_pack: str = field(
        default="base-1",
        metadata={"doc": "Rule pack that decides: name and version of one that ships, or a path to a TOML file."},
    )
    lists_dir: str = field(
        default="", metadata={"doc": "Folder of lists kept up to date (docs/lists.md); empty: those packaged."}
    )
    campaigns: str = field(
        default="token",
        metadata={
            "doc": "Who has the word on flight and budget: `token` (whoever minted it) or `registry` (campaigns opened "
            "here)."
        },
    )
    campaigns_max: int = field(
        default=1_000_000, metadata={"doc": "Campaigns that a gate remembers; the others are read when they are shown."}
    )
    canary_limits: str = field(
        default="",
        metadata={
            "doc": "Guards of canaries whose limits differ (docs/models-registry.md): "
            "`drop_share=0.03 uncertain_share=0.05`."
        },
    )
    starter: str = field(
        default="yes",
        metadata={"doc": "Where no model ever was in force `up` trains one on generated traffic: `yes` or `no`."},
    )
    workers: int = field(
        default=1,
        metadata={
            "doc": "Gates that share this cell's renders, each with its share of people; over 1, models do without "
            "counts of devices and networks."
        },
    )
    batch_max: int = field(default=512, metadata={"doc": "Most renders decided in one ledger append (1 to 512)."})
    body_max_bytes: int = field(default=4_194_304, metadata={"doc": "Largest request body; larger ones get 413."})
    renders_max: int = field(default=1_000, metadata={"doc": "Most renders in one request; more get 413."})
    admission_max_ms: int = field(
        default=20, metadata={"doc": "The gate answers 503 while its oldest render waits longer than this."}
    )
    recent_max: int = field(default=262_144, metadata={"doc": "Impressions that the gate remembers between batches."})
    recall_max: int = field(
        default=100_000, metadata={"doc": "Most commits of the ledger's tail that a gate reads before it decides."}
    )
    ledger_deadline_ms: int = field(
        default=30, metadata={"doc": "Longest that an answer waits for the ledger; then it is spooled, `DEGRADED`."}
    )
    spool_dir: str = field(
        default="", metadata={"doc": "Folder of what the ledger did not take; empty: `spool` in the data folder."}
    )
    spool_max_mb: int = field(
        default=1_024, metadata={"doc": "Most MiB that a gate keeps in its spool; then it answers 503."}
    )
    serve_ttl_s: str = field(
        default="600",
        metadata={"doc": "Seconds until an ad without render is lost; surfaces may differ: `600 reels=900`."},
    )
    session_idle_s: int = field(
        default=1_800, metadata={"doc": "Seconds after which a number that an SDK skipped counts as missing."}
    )
    feedback_pending_max: int = field(
        default=1_000_000, metadata={"doc": "Most feedback that waits or is parked; more is deferred."}
    )
    reevaluate_uncertain_s: int = field(
        default=300, metadata={"doc": "Seconds after which what is uncertain is looked at again for the first time."}
    )
    reevaluate_deadline_s: int = field(
        default=900, metadata={"doc": "Seconds before its deadline at which what is uncertain is looked at again."}
    )
    reevaluate_shed_s: int = field(
        default=3_600, metadata={"doc": "Seconds after which what was decided without a score is looked at again."}
    )
    reevaluate_sample_s: int = field(
        default=604_800, metadata={"doc": "Seconds after which the random sample is looked at again: labels need time."}
    )
    monitor_every_s: int = field(default=60, metadata={"doc": "Seconds between two looks of the monitors."})
    monitor_window_s: int = field(default=3_600, metadata={"doc": "Seconds that the monitors look back."})
    monitor_sample: int = field(
        default=5_000, metadata={"doc": "Most commits of the ledger that one look at decisions reads."}
    )
    monitor_slow_every_s: int = field(
        default=600, metadata={"doc": "Seconds between two looks at labels, and between two replays of decisions."}
    )
    quarantine_ttl_h: int = field(
        default=168, metadata={"doc": "Hours after which a quarantined body is deleted; 8 days at most."}
    )
    log_json: str = field(default="auto", metadata={"doc": "`yes`, `no`, or `auto`: JSON unless on a terminal."})

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """
        Read settings from *env*.

        Raises:
            SettingsError: naming every unknown variable and every value that cannot be used.
        """
        readers = {name: _reader(f.default) for name, f in cls.__dataclass_fields__.items()}
        values: dict[str, object] = {}
        problems: list[str] = []
        for variable, text in env.items():
            if not variable.startswith(PREFIX) or variable.startswith(PREFIX + "TEST_"):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in readers:
                problems.append(f"{variable} is not a setting; see docs/settings.md for the list.")
                continue
            if name == "data_dir" and not text:
                problems.append(f"{variable} is empty; name a folder, or leave it out.")
                continue
            try:
                values[name] = readers[name](text)
            except ValueError:
                problems.append(f"{variable}={text!r} is not a whole number.")
        settings = cls(**values)  # type: ignore[arg-type]
        problems += settings.problems()
        if problems:
            wrong = {name for name, _ in settings._wrong()}
            usable = {name: value for name, value in values.items() if name not in wrong}
            raise SettingsError(problems, cls(**usable))  # type: ignore[arg-type]
        return settings

    def environment(self) -> dict[str, str]:
        """Return the environment from which another process reads these settings."""
        return {PREFIX + name.upper(): str(getattr(self, name)) for name in self.__dataclass_fields__}

    def problems(self) -> list[str]:
        """Return one sentence per value that cannot be used."""
        return [f"{PREFIX}{name.upper()}={_shown(getattr(self, name))!r} {rule}." for name, rule in self._wrong()]

    def _wrong(self) -> list[tuple[str, str]]:
        """Return the name of each value that cannot be used, and the rule that it breaks."""
        checks = [
            ("batch_max", 1 <= self.batch_max <= 512, "must be 1 to 512"),
            ("workers", 1 <= self.workers <= 64, "must be 1 to 64"),
            ("renders_max", self.renders_max >= 1, "must be at least 1"),
            ("body_max_bytes", self.body_max_bytes >= 1, "must be at least 1"),
            ("admission_max_ms", self.admission_max_ms >= 1, "must be at least 1"),
            ("recent_max", self.recent_max >= 0, "must not be negative"),
            ("recall_max", self.recall_max >= 0, "must not be negative"),
            ("ledger_deadline_ms", 1 <= self.ledger_deadline_ms <= 5_000, "must be 1 to 5000"),
            ("spool_max_mb", 1 <= self.spool_max_mb <= 1_048_576, "must be 1 to 1048576"),
            ("campaigns", self.campaigns in {"token", "registry"}, "must be token or registry"),
            ("starter", self.starter in {"yes", "no"}, "must be yes or no"),
            ("campaigns_max", self.campaigns_max >= 2, "must be at least 2"),
            ("canary_limits", _is_limits(self.canary_limits), "must be guard=limit, limits over 0 and at most 1"),
            ("quarantine_ttl_h", 1 <= self.quarantine_ttl_h <= 720, "must be 1 to 720"),
            ("serve_ttl_s", _is_ttl(self.serve_ttl_s), "must be seconds, then surface=seconds, 1 to 86400"),
            ("session_idle_s", 1 <= self.session_idle_s <= 86_400, "must be 1 to 86400"),
            ("feedback_pending_max", self.feedback_pending_max >= 1, "must be at least 1"),
            ("reevaluate_uncertain_s", 0 <= self.reevaluate_uncertain_s <= 86_400, "must be 0 to 86400"),
            ("reevaluate_deadline_s", 0 <= self.reevaluate_deadline_s <= 86_400, "must be 0 to 86400"),
            ("reevaluate_shed_s", 0 <= self.reevaluate_shed_s <= 2_592_000, "must be 0 to 2592000"),
            ("reevaluate_sample_s", 0 <= self.reevaluate_sample_s <= 2_592_000, "must be 0 to 2592000"),
            ("monitor_every_s", 1 <= self.monitor_every_s <= 3_600, "must be 1 to 3600"),
            ("monitor_window_s", 60 <= self.monitor_window_s <= 86_400, "must be 60 to 86400"),
            ("monitor_sample", 100 <= self.monitor_sample <= 100_000, "must be 100 to 100000"),
            ("monitor_slow_every_s", 1 <= self.monitor_slow_every_s <= 86_400, "must be 1 to 86400"),
            ("region", self.region.isalnum() and self.region == self.region.lower(), "must be lower-case letters"),
            ("cell", bool(self.cell_map) or not self.cell, f"needs {PREFIX}CELL_MAP, the map that it is in"),
            ("shelter_trust", bool(self.cell_map) or not self.shelter_trust, f"needs {PREFIX}CELL_MAP: whose they are"),
            ("shelter_events_max", self.shelter_events_max >= 1, "must be at least 1"),
            ("shelter_bytes_max", self.shelter_bytes_max >= 1, "must be at least 1"),
            ("shelter_ttl_h", 1 <= self.shelter_ttl_h <= 168, "must be 1 to 168"),
            ("host", bool(_HOST.fullmatch(self.host)), "must be an address or the name of a host"),
            ("log_json", self.log_json in {"auto", "yes", "no"}, "must be auto, yes or no"),
            ("ledger_url", _is_url(self.ledger_url, *LEDGERS), "must be embedded, postgresql:// or esdb://"),
            ("database_url", _is_url(self.database_url, "postgresql"), "must be embedded or postgresql://"),
            (
                "clickhouse_dsn",
                _is_url(self.clickhouse_dsn, "chdb", "http", "https"),
                "must be embedded, chdb:// or http://",
            ),
            ("broker_url", _is_url(self.broker_url, *BROKERS), "must be embedded, redis:// or amqp://"),
        ]
        checks += [(name, 1 <= getattr(self, name) <= 65_535, "must be a port, 1 to 65535") for name in PORTS]
        return [(name, rule) for name, good, rule in checks if not good]


def _shown(value: object) -> object:
    """Return *value* as it may be told: without the user and the password of an address."""
    return _SECRET.sub("***", value) if isinstance(value, str) else value


def _reader(default: object) -> Callable[[str], object]:
    return int if isinstance(default, int) else Path if isinstance(default, Path) else str


def _is_ttl(text: str) -> bool:
    try:
        parse_ttl(text)
    except ValueError:
        return False
    return True


def _is_limits(text: str) -> bool:
    try:
        parse_limits(text)
    except ValueError:
        return False
    return True


def _is_url(value: str, *schemes: str) -> bool:
    if value == EMBEDDED or (value == _MEMORY and _MEMORY in schemes):
        return True
    scheme, separator, _ = value.partition("://")
    return bool(separator) and scheme in schemes and _has_usable_ports(value)


def _has_usable_ports(url: str) -> bool:
    """Say whether *url* can be taken apart; of several hosts, whose drivers read them, the ports are not looked at."""
    try:
        parts = urlsplit(url)
        usable = "," in parts.netloc or parts.port != 0
    except ValueError:
        return False
    return usable
