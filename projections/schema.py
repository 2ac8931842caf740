"""
The tables in ClickHouse: numbered SQL files, applied once per generation of tables and written down there.

ClickHouse has no transactions over definitions, so each statement can be repeated (`IF NOT EXISTS`), and a file is
written down after its last one: a crash between is healed by doing the file again.
"""

from hashlib import sha256
from importlib.resources import files
from string import Template

from projections.engine import Client
from projections.errors import SchemaChanged

TABLES = ("facts", "report_hour", "pacing_minute", "answers", "served_minute", "serve_reports", "sequences")
"""Tables that hold rows; `impressions` is a view over facts."""
_VIEWS = (
    "facts_{}_to_report_hour",
    "facts_{}_to_pacing_minute",
    "facts_{}_to_served_minute",
    "impressions_{}",
)
_TABLE_SETTINGS = """
    non_replicated_deduplication_window = 1000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_parts_to_merge_at_once = 30,
    auto_statistics_types = '',
    min_bytes_for_full_part_storage = 10485760
"""
"""
The window is how many parts, not inserts, a repeated token is recognised among; a block makes a part per month in it.
Merging few parts at a time would cost more than inserting them, and nobody reads the statistics. A small part in one
file instead of a dozen costs a quarter less CPU per insert; servers from before 26.7 keep a dozen.
"""
_APPLIED = """
CREATE TABLE IF NOT EXISTS schema_migrations
    (generation UInt32, name String, digest String, applied_at DateTime64(3, 'UTC'))
ENGINE = MergeTree ORDER BY (generation, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


def migrate(client: Client, generation: int) -> list[str]:
    """
    Make the tables of *generation*; return the files that were applied, none if all were before.

    Raises:
        SchemaChanged: a file that was applied has changed since.
    """
    known = _known(client, generation)
    applied = []
    for name, text in _numbered():
        digest = sha256(text.encode()).hexdigest()
        if known.get(name, digest) != digest:
            raise SchemaChanged(f"{name} was applied to generation {generation} and has changed since; add a new file")
        if name not in known:
            for statement in _statements(text, generation):
                client.command(statement)
            _write_down(client, generation, name, digest)
            applied.append(name)
    return applied


def is_made(client: Client, generation: int) -> bool:
    """Tell whether the tables of *generation* were ever made where *client* looks."""
    return bool(_known(client, generation))


def drop(client: Client, generation: int) -> None:
    """Remove the tables of *generation*, and that they were made."""
    for name in _VIEWS:
        client.command(f"DROP VIEW IF EXISTS {name.format(int(generation))} SYNC")
    for table in TABLES:
        client.command(f"DROP TABLE IF EXISTS {table}_{int(generation)} SYNC")
    client.command(
        "ALTER TABLE schema_migrations DELETE WHERE generation = {generation:UInt32} SETTINGS mutations_sync = 1",
        parameters={"generation": generation},
    )


def columns(client: Client, table: str) -> dict[str, str]:
    """Return the columns of *table* that take values, name -> type, in order."""
    found = client.query(f"DESCRIBE TABLE {table}")
    return {
        str(row["name"]): str(row["type"])
        for row in found.named_results()
        if row["default_type"] not in {"ALIAS", "MATERIALIZED"}
    }


def _known(client: Client, generation: int) -> dict[str, str]:
    """Files that were applied to *generation* -> their digests."""
    client.command(_APPLIED)
    found = client.query(
        "SELECT name, digest FROM schema_migrations WHERE generation = {generation:UInt32}",
        parameters={"generation": generation},
    )
    return {str(name): str(digest) for name, digest in found.result_rows}


def _numbered() -> list[tuple[str, str]]:
    folder = files("migrations") / "clickhouse"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [(entry.name, entry.read_text()) for entry in sorted(found, key=lambda entry: entry.name)]


def _statements(text: str, generation: int) -> list[str]:
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    filled = Template(code).substitute(generation=int(generation), table_settings=_TABLE_SETTINGS)
    return [statement for part in filled.split(";\n") if (statement := part.strip().rstrip(";"))]


def _write_down(client: Client, generation: int, name: str, digest: str) -> None:
    client.command(
        "INSERT INTO schema_migrations SELECT {generation:UInt32}, {name:String}, {digest:String}, now64(3)",
        parameters={"generation": generation, "name": name, "digest": digest},
    )
