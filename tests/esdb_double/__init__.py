"""
A double of EventStoreDB that keeps to its protocol: a gRPC server on a real socket over the client's own generated
service classes, with the server's rules as its published source and the client's published tests state them.

`log.py` is what the server keeps, `checks.py` its rules of expected versions, `reading.py` its pages, `journal.py` its
file, `faults.py` what may go wrong, `streams.py` and `gossip.py` its services, `node.py` servers and clusters of them.
"""

from .faults import Fault, chance, script
from .log import Log
from .node import Cluster, Node, Trust

__all__ = ["Cluster", "Fault", "Log", "Node", "Trust", "chance", "script"]
