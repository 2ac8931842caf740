"""Who is in the cluster, and who leads."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .protocol import gossip_pb2, gossip_pb2_grpc

if TYPE_CHECKING:
    from .node import Node

_STATES = gossip_pb2.MemberInfo.VNodeState


class Gossip(gossip_pb2_grpc.GossipServicer):
    def __init__(self, node: "Node", members: Callable[[], Sequence["Node"]]) -> None:
        self._node = node
        self._members = members

    def Read(self, request, context):  # noqa: N802 (the generated class names it)
        del request
        while self._node.silent and context.is_active():
            time.sleep(0.01)
        return gossip_pb2.ClusterInfo(
            members=[
                gossip_pb2.MemberInfo(
                    state=_STATES.Leader if node.leads else _STATES.Follower,
                    is_alive=node.alive,
                    http_end_point=gossip_pb2.EndPoint(address=node.host, port=node.port),
                )
                for node in self._members()
            ]
        )
