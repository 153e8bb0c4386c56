"""The three sides of the bus over NATS; the only importer of nats.

connection: one supervised connection. direct: reading by direct get. streams: the layout of JetStream.
Then one module per side: agent, master, operator.
"""

from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.connection import SERVER_VERSION_MIN, Address
from protocol.nats_bus.master import NatsMasterBus
from protocol.nats_bus.operator import NatsOperatorBus

__all__ = ["SERVER_VERSION_MIN", "Address", "NatsAgentBus", "NatsMasterBus", "NatsOperatorBus"]
