"""Speaks on a mesh's bus with the administrator's credentials: what a person could do with the `nats` command."""

import asyncio
import tomllib
from pathlib import Path

import nats

from protocol import identity
from protocol.nats_bus import trust


def publish(mesh_dir: Path, messages: list[tuple[str, bytes]]) -> None:
    """Publish each payload on its subject, and return when the server has taken them all."""
    asyncio.run(_publish(mesh_dir, messages))


async def _publish(mesh_dir: Path, messages: list[tuple[str, bytes]]) -> None:
    settings = tomllib.loads((mesh_dir / "operator.toml").read_text())
    seed = identity.read_seed(mesh_dir / "keys/admin.nk")  # an operator's own key may ask, not speak
    client = await nats.connect(
        settings["server"],
        nkeys_seed_str=seed,
        tls=trust(mesh_dir / settings["ca_file"]),
        tls_handshake_first=True,
        allow_reconnect=False,
    )
    for subject, payload in messages:
        await client.publish(subject, payload)
    await client.flush()
    await client.flush()
    await client.close()
