"""Which nats-server runs the mesh, on which port, and whether it answers."""

import asyncio
import errno
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from master.up.layout import BROKER, HOST
from protocol.errors import Refused
from protocol.nats_bus import SERVER_VERSION_MIN, trust

INSTALL_HINT: Final = "pip install 'gnt-mesh[broker]'"

PORTS: Final = range(20000, 32768)
"""Below the ports that the kernel gives to outgoing connections, so that a remembered one is free the next time too."""

PORT_TRIES: Final = 200
VERSION_TIMEOUT_S: Final = 10.0
PROBE_TIMEOUT_S: Final = 2.0
PROBE_PAUSE_FIRST_S: Final = 0.01
PROBE_PAUSE_LONGEST_S: Final = 0.25
RELEASE_STEP_S: Final = 0.05

_VERSION = re.compile(r"\bv?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Server:
    """A nats-server that is new enough."""

    path: Path
    version: tuple[int, int, int]


def find_server(beside: Path, search_path: str) -> Server:
    """Return the nats-server in the directory `beside`, else on the search path; Refused if none is new enough."""
    candidate = beside / BROKER
    found = str(candidate) if candidate.is_file() else shutil.which(BROKER, path=search_path)
    if found is None:
        raise Refused(f"there is no {BROKER} in {beside} or on the PATH; install it with: {INSTALL_HINT}")
    path = Path(found).absolute()
    version = _version_of(path)
    if version < SERVER_VERSION_MIN:
        raise Refused(
            f"{path} is version {_dotted(version)}, at least {_dotted(SERVER_VERSION_MIN)} is needed; "
            f"install it with: {INSTALL_HINT}"
        )
    return Server(path, version)


def free_port() -> int:
    """Return a port on which nobody listens now."""
    for port in random.sample(PORTS, PORT_TRIES):
        if is_free(port):
            return port
    raise Refused(f"no free port found between {PORTS.start} and {PORTS.stop - 1}; name one with --port")


def check_port(port: int, *, patience_s: float = 0.0, next_step: str) -> None:
    """Refused if the port stays in use for this long."""
    deadline_s = time.monotonic() + patience_s
    while not is_free(port):
        if time.monotonic() >= deadline_s:
            raise Refused(f"port {port} on {HOST} is in use; {next_step}")
        time.sleep(RELEASE_STEP_S)


def is_free(port: int) -> bool:
    """True if a server could listen on the port; Refused if this user may not, whether it is free or not."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except PermissionError:
            raise Refused(f"port {port}: this user may not listen on it; choose a --port from 1024 on") from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


async def until_answering(port: int, server_name: str, ca_file: Path) -> None:
    """Return once the server of this name greets on the port. Without end: who waits also watches the process."""
    context = trust(ca_file)
    pause_s = PROBE_PAUSE_FIRST_S
    while await _greeting(port, context) != server_name:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, PROBE_PAUSE_LONGEST_S)


async def _greeting(port: int, context: ssl.SSLContext) -> str | None:
    """Return the name in the INFO line that a nats-server begins with, None if there is no such line."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
            try:
                line = await reader.readline()
            finally:
                writer.transport.abort()
        verb, _, rest = line.partition(b" ")
        return str(json.loads(rest)["server_name"]) if verb == b"INFO" else None
    except (OSError, TimeoutError, ValueError, KeyError, TypeError):
        return None


def _version_of(path: Path) -> tuple[int, int, int]:
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=VERSION_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(f"{path} --version does not work: {error}; install it anew with: {INSTALL_HINT}") from error
    found = _VERSION.search(answer.stdout)
    if found is None:
        raise Refused(f"{path} --version says {answer.stdout.strip()!r}, no version; install it with: {INSTALL_HINT}")
    return int(found[1]), int(found[2]), int(found[3])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
