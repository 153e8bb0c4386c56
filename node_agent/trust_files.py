"""Whom this node believes, as its settings name it: the authorities of the server, and the master's keys."""

from node_agent.settings import AgentSettings
from protocol import durable, identity
from protocol.errors import Unavailable
from protocol.key_messages import Trust


def keep(settings: AgentSettings, trust: Trust) -> None:
    """Believe these from the next start on, durably. The caller has made sure that the master says so."""
    for path, content in (
        (settings.ca_file, trust.authorities.encode()),
        (settings.master_keys_file, identity.public_keys_text(trust.master_keys)),
    ):
        try:
            if not path.exists() or path.read_bytes() != content:
                durable.write_file(path, content, mode=0o644)
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from error
