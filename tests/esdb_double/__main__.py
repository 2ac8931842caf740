"""`python -m tests.esdb_double --port N [--data FILE]`: one node as a process of its own, until it is told to end."""

import argparse
import signal
import threading
from pathlib import Path

from .log import Log
from .node import Node


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=2113, help="0 takes a free one")
    parser.add_argument("--data", type=Path, help="a file that keeps everything over kill -9; without it, memory")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Node(Log(arguments.data), port=arguments.port) as node:
        print(f"EventStoreDB double on {node.url}, {len(node.log.records)} records", flush=True)  # noqa: T201 (it says where it is)
        ended.wait()


if __name__ == "__main__":
    main()
