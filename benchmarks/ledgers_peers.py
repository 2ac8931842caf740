"""
One writer on another project's store; `ledgers.py` starts it with an interpreter that has `eventsourcing` and `umadb`.

A peer gets its events as finished bytes, where the project's adapters write them down first.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_OID, UUID, uuid5

from ledgers_writer import WARM, Asked, Planned, Watch, asked, planned

THREADS = 64
TOPICS = ("ImpressionRendered", "ImpressionScored", "ImpressionDeduped")


def main() -> None:
    ask = asked()
    requests, append = opened(ask)
    measured = requests[WARM[ask.batch] :]
    for request in requests[: WARM[ask.batch]]:
        append(request)
    watch = Watch()
    for request in measured:
        append(request)
        watch.lap()
    watch.tell()


def opened(ask: Asked) -> tuple[list, Callable]:
    """Return the batches as the peer takes them, and what appends one."""
    match ask.adapter:
        case "pyeventsourcing" | "pyeventsourcing_functions":
            return recorder(ask, with_functions=ask.adapter.endswith("functions"))
        case "umadb" | "umadb_each":
            return umadb(ask, each_alone=ask.adapter.endswith("each"))
    raise SystemExit(f"no peer is called {ask.adapter}")


def recorder(ask: Asked, *, with_functions: bool) -> tuple[list, Callable]:
    from eventsourcing.persistence import StoredEvent  # noqa: PLC0415 (each peer may be missing)
    from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore  # noqa: PLC0415

    address = urlsplit(ask.address)
    where = parse_qs(address.query)
    store = PostgresDatastore(
        dbname=address.path.strip("/"),
        host=where["host"][0],
        port=where["port"][0],
        user=address.username,
        password="",
        enable_db_functions=with_functions,
    )
    events = PostgresApplicationRecorder(store)
    if ask.number == 0:
        events.create_table()

    def append(stored: Sequence[StoredEvent]) -> None:
        assert len(events.insert_events(stored)) == len(stored)

    return [
        [
            StoredEvent(UUID(int=one.stream), version, topic, data)
            for one in batch
            for version, (topic, data) in enumerate(zip(TOPICS, one.events, strict=True), 1)
        ]
        for batch in planned(ask)
    ], append


def umadb(ask: Asked, *, each_alone: bool) -> tuple[list, Callable]:
    from umadb import AppendCondition, Client, Event, Query, QueryItem  # noqa: PLC0415

    client = Client(ask.address)

    def request(commits: Sequence[Planned]) -> tuple[list[Event], AppendCondition]:
        """All of *commits* or none: each under its stream's tag, which no event may bear yet."""
        tags = [[str(UUID(int=one.stream))] for one in commits]
        events = [
            Event(event_type=topic, data=data, tags=tag, uuid=uuid5(NAMESPACE_OID, f"{one.cause:x}-{at}"))
            for tag, one in zip(tags, commits, strict=True)
            for at, (topic, data) in enumerate(zip(TOPICS, one.events, strict=True))
        ]
        return events, AppendCondition(
            fail_if_events_match=Query(items=[QueryItem(types=[], tags=tag) for tag in tags])
        )

    batches = planned(ask)
    if not each_alone:
        return [request(batch) for batch in batches], lambda whole: client.append(*whole)
    pool = ThreadPoolExecutor(THREADS)
    return (
        [[request([one]) for one in batch] for batch in batches],
        lambda several: list(pool.map(lambda alone: client.append(*alone), several)),
    )


if __name__ == "__main__":
    main()
