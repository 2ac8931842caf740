"""Servers: one node, or several that share what they have replicated."""

import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from . import faults
from .gossip import Gossip
from .log import Log
from .protocol import gossip_pb2_grpc, streams_pb2_grpc
from .streams import Streams

_THREADS = 128
_MESSAGE_MAX = 17 << 20


@dataclass(frozen=True)
class Trust:
    """A server's key and certificate, PEM, and the one user whom it lets in."""

    key: bytes
    certificate: bytes
    user: str = "admin"
    password: str = "changeit"


class Node:
    """
    A server on a socket of its own. `append_faults` and `read_faults` may be replaced at any time.

    `tail_checkpoint` sends a checkpoint at the tail with the next record's position, as servers up to 22.10 do.
    `collision_breaks_calls` with a fault makes an index collision end the call, as the published source does: the
    version that it would have to report does not fit its message. A `silent` node takes every call and answers none.
    """

    def __init__(self, log: Log | None = None, *, port: int = 0, trust: Trust | None = None) -> None:
        self.log = Log() if log is None else log
        self.host = "127.0.0.1"
        self.append_faults: faults.Faults = faults.none
        self.read_faults: faults.Faults = faults.none
        self.tail_checkpoint = True
        self.collision_breaks_calls: faults.Fault | None = faults.Fault.DENIED
        self.leads = True
        self.silent = False
        self.alive = False
        self.cluster: Cluster | None = None
        self.calls = 0
        self.unanswered = self.unanswered_max = 0
        self._trust = trust
        self.port = port

    def start(self) -> Self:
        options = [
            ("grpc.max_receive_message_length", _MESSAGE_MAX),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ]
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=options)
        streams_pb2_grpc.add_StreamsServicer_to_server(Streams(self), self._server)
        gossip_pb2_grpc.add_GossipServicer_to_server(Gossip(self, self._members), self._server)
        address = f"{self.host}:{self.port}"
        if self._trust is None:
            self.port = self._server.add_insecure_port(address)
        else:
            pairs = [(self._trust.key, self._trust.certificate)]
            self.port = self._server.add_secure_port(address, grpc.ssl_server_credentials(pairs))
        self._server.start()
        self.alive = True
        return self

    def stop(self) -> None:
        """Break all calls and leave the port."""
        self.alive = False
        stopped: threading.Event = self._server.stop(grace=None)
        stopped.wait(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.log.close()

    @property
    def url(self) -> str:
        return f"esdb://{self.host}:{self.port}?tls=false"

    def enter(self, context) -> None:
        """Refuse who is not let in, and who wants a leader."""
        self.calls += 1
        while self.silent and context.is_active():
            time.sleep(0.01)
        said = dict(context.invocation_metadata())
        if self._trust is not None:
            secret = b64encode(f"{self._trust.user}:{self._trust.password}".encode()).decode()
            if said.get("authorization") != f"Basic {secret}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "Access Denied")
        if not self.serves(context):
            self.refuse_as_follower(context)

    def serves(self, context) -> bool:
        return self.leads or dict(context.invocation_metadata()).get("requires-leader") != "true"

    def refuse_as_follower(self, context) -> None:
        leader = next((node for node in self._members() if node.leads), None)
        if leader is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "No leader info available in response")
        context.set_trailing_metadata(
            (("leader-endpoint-host", leader.host), ("leader-endpoint-port", str(leader.port)))
        )
        context.abort(grpc.StatusCode.NOT_FOUND, "Leader info available")

    def _members(self) -> Sequence["Node"]:
        return [self] if self.cluster is None else self.cluster.nodes


class Cluster:
    """Nodes of which one leads; what the leader wrote, all have."""

    def __init__(self, size: int = 3, data: Path | None = None) -> None:
        self.log = Log(data)
        self.nodes = [Node(self.log) for _ in range(size)]
        for node in self.nodes:
            node.cluster = self
            node.leads = node is self.nodes[0]

    def elect(self, number: int | None) -> None:
        """From now on the node with *number* leads, or nobody."""
        for at, node in enumerate(self.nodes):
            node.leads = at == number

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.alive:
                node.stop()
        self.log.close()

    @property
    def url(self) -> str:
        return "esdb://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes) + "?tls=false"
