"""The three sides of the bus over NATS; the only importer of nats.

ending: work that loses cancellations. clients: one nats-py client. requests: questions to the bus. connection: both,
supervised. direct: reading by direct get. streams: the layout of JetStream. answering: how a request is answered.
Then one module per side: agent (with node_service), master (with api_service), operator. What is checked of every
message is in `protocol.sealing.envelopes`.
"""

from protocol.nats_bus.agent import NatsAgentBus
from protocol.nats_bus.clients import SERVER_VERSION_MIN, Address, Endpoint, trust
from protocol.nats_bus.master import NatsMasterBus
from protocol.nats_bus.operator import NatsOperatorBus

__all__ = ["SERVER_VERSION_MIN", "Address", "Endpoint", "NatsAgentBus", "NatsMasterBus", "NatsOperatorBus", "trust"]
