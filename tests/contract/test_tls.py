"""Nobody speaks to a server whose certificate does not fit, and nobody is talked out of TLS (nats-facts, section 5)."""

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from master import certificates
from master.certificates import Pair
from protocol.errors import Refused, Unavailable
from protocol.names import ALL
from protocol.nats_bus import Endpoint, NatsOperatorBus
from tests.contract.harness import WAIT_S, NatsHarness, a_master
from tests.support.builders import NODE1

SOON_S = 0.5


async def refusal(endpoint: Endpoint, seed: str) -> str:
    operator = NatsOperatorBus(endpoint, seed)
    try:
        with pytest.raises(Unavailable) as refused:
            await operator.open(timeout_s=SOON_S)
        return str(refused.value)
    finally:
        await operator.close()


async def test_an_agent_does_not_take_up_an_authority_that_does_not_vouch_for_the_server(
    nats_bus: NatsHarness, tmp_path: Path
) -> None:
    foreign = Pair(tmp_path / "foreign.key", tmp_path / "foreign.pem")
    certificates.ensure_authority(foreign, "test")
    await a_master(nats_bus, {NODE1: [ALL]})
    agent, _ = await nats_bus.agent(NODE1)

    await agent.check_authorities(nats_bus.server.endpoint.ca_file.read_text())
    with pytest.raises(Unavailable, match="the server's certificate is not believed"):
        await agent.check_authorities(foreign.certificate.read_text())
    with pytest.raises(Refused, match="not the certificates of an authority"):
        await agent.check_authorities("nonsense ö")


async def test_a_server_of_another_authority_is_not_believed(nats_bus: NatsHarness, tmp_path: Path) -> None:
    foreign = Pair(tmp_path / "foreign.key", tmp_path / "foreign.pem")
    certificates.ensure_authority(foreign, "test")
    endpoint = Endpoint(nats_bus.server.url, foreign.certificate)
    assert "the server's certificate is not believed" in await refusal(endpoint, nats_bus.server.keys.admin)


async def test_a_server_under_another_name_is_not_believed(nats_bus: NatsHarness) -> None:
    endpoint = Endpoint(nats_bus.server.url.replace("127.0.0.1", "127.0.0.2"), nats_bus.server.endpoint.ca_file)
    reason = await refusal(endpoint, nats_bus.server.keys.admin)
    assert "not believed" in reason or "refused" in reason

    named = nats_bus.server.url.replace("127.0.0.1", "localhost")
    reason = await refusal(Endpoint(named, nats_bus.server.endpoint.ca_file), nats_bus.server.keys.admin)
    assert "not believed: hostname mismatch" in reason


async def test_without_authorities_nothing_is_tried(nats_bus: NatsHarness, tmp_path: Path) -> None:
    for content in (None, b"", b"nonsense"):
        file = tmp_path / "none.pem"
        if content is not None:
            file.write_bytes(content)
        operator = NatsOperatorBus(Endpoint(nats_bus.server.url, file), nats_bus.server.keys.admin)
        with pytest.raises(Refused, match=r"none\.pem"):
            await operator.open()
        await operator.close()


async def test_a_server_that_greets_in_plain_text_learns_nothing(nats_bus: NatsHarness) -> None:
    """Who strips the TLS from a connection gets neither a name nor a signature, nor any answer but a TLS hello."""
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "X", "version": "2.15.1", "max_payload": 1048576, "headers": True, "nonce": "abcdef"}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        said.put_nowait(await reader.read(4096))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as stripper:
        port = stripper.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"nats://127.0.0.1:{port}", nats_bus.server.endpoint.ca_file)
        await refusal(endpoint, nats_bus.server.keys.admin)
        heard = await said.get()
    assert heard[:2] == b"\x16\x03" and b"CONNECT" not in heard


async def test_the_server_says_nothing_in_plain_text(nats_bus: NatsHarness) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_bus.server.port)
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    async with asyncio.timeout(WAIT_S):
        assert b"INFO" not in await reader.read()
    writer.close()


async def test_older_tls_is_refused(nats_bus: NatsHarness) -> None:
    context = ssl.create_default_context(cafile=nats_bus.server.endpoint.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", nats_bus.server.port, ssl=context)
