"""What `ledgers.py` found, as a table in Markdown; a ledger's last column says what its speed buys."""

from typing import Any

NAMES = {
    "memory": ("memory", "nothing on disk; reference model: each commit its own outcome, known by its cause"),
    "postgres": (
        "PostgreSQL",
        "fsync; each commit atomic with its own outcome, one known by its cause changes nothing; gap-free order",
    ),
    "eventstoredb": (
        "EventStoreDB, client only",
        "the double keeps nothing; same promises as PostgreSQL, by the adapter",
    ),
    "pyeventsourcing": (
        "pyeventsourcing",
        "fsync, same settings; all streams of a call or none; no cause, a retry is an error; order by a table lock",
    ),
    "pyeventsourcing_functions": (
        "pyeventsourcing, database functions",
        "the same, without the table lock",
    ),
    "umadb": (
        "UmaDB, a batch as one append",
        "fdatasync; all streams of a batch or none; the same event ids again change nothing; order of commits",
    ),
    "umadb_each": (
        "UmaDB, 64 appends at a time",
        "fdatasync shared by who waits; each commit its own outcome, known by its event ids; order of commits",
    ),
}
NO_SERVER = "eventstoredb"


def table(found: dict[str, Any]) -> str:
    rows = [
        [
            "ledger",
            "batch",
            "writers",
            "appends/s",
            "CPU client / server, µs",
            "batch p50 / p99, ms",
            "durable, and what it promises",
        ],
        ["---"] * 7,
    ]
    said: set[str] = set()
    for run in found["runs"]:
        name, promises = NAMES[run["ledger"]]
        double = run["ledger"] == NO_SERVER
        rows.append(
            [
                name,
                str(run["batch"]),
                str(run["writers"]),
                "-" if double else f"{run['per_s']:,.0f}",
                f"{run['client_cpu_us']:.0f} / " + ("-" if double else f"{run['server_cpu_us']:.0f}"),
                "-" if double else f"{run['batch_ms_p50']:.3g} / {run['batch_ms_p99']:.3g}",
                "" if name in said else promises,
            ]
        )
        said.add(name)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
