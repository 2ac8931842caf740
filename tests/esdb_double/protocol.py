"""The client's generated classes, under the names that its two generations share."""

import sys

if sys.version_info >= (3, 14):
    from kurrentdbclient.protos.v1 import (
        gossip_pb2,
        gossip_pb2_grpc,
        shared_pb2,
        status_pb2,
        streams_pb2,
        streams_pb2_grpc,
    )
else:
    from esdbclient.protos.Grpc import (
        gossip_pb2,
        gossip_pb2_grpc,
        shared_pb2,
        status_pb2,
        streams_pb2,
        streams_pb2_grpc,
    )

__all__ = [
    "gossip_pb2",
    "gossip_pb2_grpc",
    "shared_pb2",
    "status_pb2",
    "streams_pb2",
    "streams_pb2_grpc",
]
