"""Hears and sees everything: `nats sub '>'`, with headers, in the account that the master has to itself."""

import asyncio
import json
import threading
import tomllib
from pathlib import Path
from types import TracebackType

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from protocol import identity
from protocol.nats_bus import trust

READY_S = 20


class Spy:
    """While its context lasts, `heard` grows."""

    def __init__(self, mesh_dir: Path) -> None:
        self._mesh_dir = mesh_dir
        self.heard: list[bytes] = []
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))

    def __enter__(self) -> "Spy":
        self._thread.start()
        assert self._ready.wait(READY_S), "the spy cannot listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    async def _listen(self) -> None:
        client = await _connect(self._mesh_dir)

        async def hear(message: Msg) -> None:
            headers = "\n".join(f"{key}: {value}" for key, value in (message.headers or {}).items())
            self.heard.append(f"{message.subject}\n{headers}\n".encode() + message.data)

        await client.subscribe(">", cb=hear, pending_bytes_limit=512 * 1024 * 1024)
        await client.flush()
        self._ready.set()
        await asyncio.to_thread(self._over.wait)
        await client.flush()
        await client.close()


def stored_subjects(mesh_dir: Path, stream: str) -> set[str]:
    """Return the subjects of which a stream holds a message."""
    return asyncio.run(_stored_subjects(mesh_dir, stream))


async def _stored_subjects(mesh_dir: Path, stream: str) -> set[str]:
    client = await _connect(mesh_dir)
    try:
        info = await client.request(f"$JS.API.STREAM.INFO.{stream}", b'{"subjects_filter": ">"}')
        return set(json.loads(info.data)["state"].get("subjects") or ())
    finally:
        await client.close()


async def _connect(mesh_dir: Path) -> Client:
    settings = tomllib.loads((mesh_dir / "operator.toml").read_text())
    return await nats.connect(
        settings["server"],
        nkeys_seed_str=identity.read_seed(mesh_dir / "keys/master.nk"),
        tls=trust(mesh_dir / settings["ca_file"]),
        tls_handshake_first=True,
        pending_size=64 * 1024 * 1024,
    )
