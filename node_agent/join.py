"""`gnt-mesh-agent join TOKEN`: a machine becomes a node of the cluster whose token it holds.

The node's key is made here and stays here. The first thing that is sent anywhere is a TLS greeting; the cluster's
authority is recognised by the fingerprint in the token before anything else is said, and from then on nobody else is
believed. Killed anywhere, it can be run again with the same token.
"""

import asyncio
import hashlib
import json
import os
import socket
import ssl
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from protocol import durable, identity, join_token
from protocol.access_messages import JoinReply, JoinRequest
from protocol.errors import Refused, Unavailable
from protocol.join_token import JoinToken

CONNECT_TIMEOUT_S: Final = 10.0
PORT_DEFAULT: Final = 4222
ROOT_DEFAULT: Final = Path("/")

SEED_FILE: Final = "agent.nk"
AUTHORITY_FILE: Final = "ca.pem"
MASTER_KEYS_FILE: Final = "master.pub"

_DER: Final = 2
"""`_ssl.ENCODING_DER`, before Python 3.13 has a public way to the chain that a server has shown."""

Ask = Callable[[str, Path, str, JoinRequest], Awaitable[JoinReply]]
"""Takes the server's address, whom to trust, the key of the door, and the request."""


@dataclass(frozen=True, slots=True)
class Joined:
    cluster: str
    node: str
    settings: Path


async def join(text: str, settings: Path, root: Path, ask: Ask) -> Joined:
    """Join with a token; Refused or Unavailable say why it cannot be, and leave what was here before."""
    token = join_token.from_text(text)
    directory = settings.parent
    durable.make_directory(directory)
    authority = await asyncio.to_thread(fetch_authority, token)
    pending_authority, pending_seed = directory / f"{AUTHORITY_FILE}.new", directory / f"{SEED_FILE}.new"
    durable.write_file(pending_authority, authority.encode(), mode=0o644)
    key = identity.ensure_seed(pending_seed)
    secret = identity.seed_of(token.secret)
    request = JoinRequest(
        node=token.node,
        public_key=key,
        token_key=identity.public_key_of(secret),
        signature=identity.sign(secret, join_token.proof_of(token.node, key)),
    )
    reply = await ask(token.server, pending_authority, identity.seed_of(token.door), request)
    durable.write_file(directory / AUTHORITY_FILE, reply.authorities.encode(), mode=0o644)
    master_keys = identity.public_keys_text([identity.public_text(token.master)])
    durable.write_file(directory / MASTER_KEYS_FILE, master_keys, mode=0o644)
    durable.write_file(settings, _settings_text(settings, token, root), mode=0o644)
    pending_seed.rename(directory / SEED_FILE)  # last: until then all of it can be done again
    pending_authority.unlink()
    durable.sync_directory(directory)
    return Joined(reply.cluster, token.node, settings)


def fetch_authority(token: JoinToken) -> str:
    """Return the certificate of the authority that the token names, as PEM, from the chain that the server shows.

    Nothing but a TLS greeting is sent: who answers is not known yet.
    """
    address = urlsplit(token.server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        where = (address.hostname or "", address.port or PORT_DEFAULT)
        with socket.create_connection(where, CONNECT_TIMEOUT_S) as plain, context.wrap_socket(plain) as connected:
            chain = _chain_of(connected)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{token.server}: {_reason(error)}; is the cluster's nats-server up and reachable?"
        ) from error
    for certificate in chain:
        if hashlib.sha256(certificate).hexdigest() == token.authority:
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise Refused(
        f"{token.server} is not the cluster of this join token: its certificate authority has another fingerprint. "
        "Nothing was sent to it. Somebody may be in between, or the authority was renewed; make a new token"
    )


def _chain_of(connected: ssl.SSLSocket) -> list[bytes]:
    if hasattr(connected, "get_unverified_chain"):
        return list(connected.get_unverified_chain())
    shown: Any = getattr(connected, "_sslobj", None)
    return [certificate.public_bytes(_DER) for certificate in shown.get_unverified_chain() or ()]


def _settings_text(settings: Path, token: JoinToken, root: Path) -> bytes:
    """Return the agent's settings; what an administrator had set in the file that is there stays."""
    try:
        former = tomllib.loads(settings.read_text(encoding="utf-8"))
    except FileNotFoundError:
        former = {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{settings}: {error}; repair it, or move it away") from error
    values = former | {
        "node": token.node,
        "server": token.server,
        "ca_file": AUTHORITY_FILE,
        "seed_file": SEED_FILE,
        "master_keys_file": MASTER_KEYS_FILE,
    }
    if root != ROOT_DEFAULT:
        values |= {"root": str(root.absolute()), "state_dir": str(root.absolute() / "var/lib/gnt-mesh/agent")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["# Written by gnt-mesh-agent join.", *lines, ""]).encode()


def _reason(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number and number > 0 else str(error)
