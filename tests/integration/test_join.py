"""A machine becomes a node with its token: the command as it is typed, on a real server and a real master."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from master import certificates
from master.certificates import Pair
from node_agent.settings import agent_settings
from protocol import identity, join_token, subjects
from protocol.errors import Unavailable
from protocol.names import ALL
from protocol.nats_bus import direct
from protocol.operator_messages import Changed, NodeAdd, NodeRemove
from tests.support.walled import REGULAR, Walled, walled

COMMAND = Path(sys.prefix) / "bin" / "gnt-mesh-agent"
NODE = "node4"


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Walled]:
    async with walled(tmp_path) as running:
        yield running


async def run_join(token: str, settings: Path) -> tuple[int, str]:
    """Run the command as an administrator types it; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        "join",
        "-",
        "--settings",
        settings,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate(token.encode())
    assert process.returncode is not None
    return process.returncode, said.decode()


async def token_of(cluster: Walled, name: str = NODE, *, readd: bool = False) -> str:
    return (await cluster.ask("node.add", NodeAdd(name=name, readd=readd), Changed)).token


async def reads(cluster: Walled, settings: Path) -> bool:
    """Whether the node with these settings may read what is for all."""
    agent = agent_settings(settings)
    raw = await cluster.raw(identity.read_seed(agent.seed_file), subjects.inbox_prefix(agent.node))
    return await direct.last(raw.connection, f"FILES_{ALL}", f"mesh.manifest.{ALL}") is not None


async def test_a_machine_joins_and_reads_and_its_key_has_never_left_it(cluster: Walled, tmp_path: Path) -> None:
    token = await token_of(cluster)
    settings = tmp_path / "node4/agent.toml"

    code, said = await run_join(token, settings)

    assert (code, said) == (0, f"node4 is in cluster walled; its agent's settings are {settings}\n")
    assert await reads(cluster, settings)
    assert sorted(path.name for path in settings.parent.iterdir()) == ["agent.nk", "agent.toml", "ca.pem", "master.pub"]
    seed = settings.parent / "agent.nk"
    assert seed.stat().st_mode & 0o777 == 0o600
    for path in (tmp_path / "state", tmp_path / "root", tmp_path / "broker"):
        for file in path.rglob("*"):
            assert not file.is_file() or seed.read_bytes().strip() not in file.read_bytes(), file


@pytest.mark.parametrize("fault", ["used", "expired", "altered", "removed", "replaced", "nonsense", "old"])
async def test_a_token_that_is_void_is_refused_with_the_reason(cluster: Walled, tmp_path: Path, fault: str) -> None:
    reasons = {
        "used": "was used already",
        "expired": "expired",
        "altered": "altered or cut off",
        "removed": "the node was removed",
        "replaced": "a newer token was made",
        "nonsense": "no join token",
        "old": "the cluster's keys were renewed after it was made",
    }
    if fault == "expired":
        object.__setattr__(cluster.daemon.settings, "join_token_valid_s", -5.0)
    token = await token_of(cluster)
    match fault:
        case "used":
            assert (await run_join(token, tmp_path / "first/agent.toml"))[0] == 0
        case "altered":
            token = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
        case "removed":
            await cluster.ask("node.remove", NodeRemove(name=NODE), Changed)
        case "replaced":
            await token_of(cluster, readd=True)
        case "nonsense":
            token = "hello"
        case "old":
            token = join_token.to_text(replace(join_token.from_text(token), door=bytes(range(32))))

    code, said = await run_join(token, tmp_path / "node4/agent.toml")

    assert code == 1 and reasons[fault] in said and said.count("\n") == 1
    assert not (tmp_path / "node4/agent.toml").exists() and not (tmp_path / "node4/agent.nk").exists()


async def test_a_join_whose_answer_was_lost_is_done_again_with_the_same_token(cluster: Walled, tmp_path: Path) -> None:
    token = await token_of(cluster)
    settings = tmp_path / "node4/agent.toml"
    assert (await run_join(token, settings))[0] == 0
    seed = settings.parent / "agent.nk"
    seed.rename(settings.parent / "agent.nk.new")  # as if it had been killed before its last step
    settings.unlink()

    code, said = await run_join(token, settings)

    assert code == 0, said
    assert await reads(cluster, settings)


async def test_a_reinstalled_node_has_a_new_identity_and_the_old_one_is_cut_off(
    cluster: Walled, tmp_path: Path
) -> None:
    old = await cluster.as_node(REGULAR)
    lost = asyncio.Event()
    old.changed = lambda is_up: None if is_up else lost.set()  # type: ignore[method-assign]

    token = await token_of(cluster, REGULAR, readd=True)
    async with asyncio.timeout(1.0):
        await lost.wait()
    settings = tmp_path / "reinstalled/agent.toml"
    code, said = await run_join(token, settings)
    assert code == 0, said

    assert await reads(cluster, settings)
    with pytest.raises(Unavailable):
        await direct.last(old.connection, f"FILES_{ALL}", f"mesh.manifest.{ALL}")


async def test_another_cluster_at_the_same_address_learns_nothing(cluster: Walled, tmp_path: Path) -> None:
    """The fingerprint decides before anything but a TLS greeting is sent."""
    token = join_token.from_text(await token_of(cluster))
    foreign = Pair(tmp_path / "foreign.key", tmp_path / "foreign.pem")
    certificates.ensure_authority(foreign, "walled")
    fingerprint = certificates.facts(foreign.certificate).fingerprint
    wrong = replace(token, authority=fingerprint)

    code, said = await run_join(join_token.to_text(wrong), tmp_path / "node4/agent.toml")

    assert code == 1 and "another fingerprint. Nothing was sent to it" in said
    assert cluster.daemon.desired.config.node(NODE).public_key == ""


async def test_what_the_administrator_had_set_stays(cluster: Walled, tmp_path: Path) -> None:
    settings = tmp_path / "node4/agent.toml"
    settings.parent.mkdir()
    settings.write_text('node = "old"\nserver = "tls://old"\nallowed_paths = ["/etc"]\nbeat_interval_s = 2.5\n')

    assert (await run_join(await token_of(cluster), settings))[0] == 0

    agent = agent_settings(settings)
    assert (agent.node, agent.allowed_paths, agent.beat_interval_s) == (NODE, ("/etc",), 2.5)


async def test_the_door_opens_nothing_else(cluster: Walled) -> None:
    raw = await cluster.raw(cluster.server.keys.join, "_INBOX_join")
    for subject in ("mesh.api.status", "mesh.api.node.add", "$JS.API.INFO", "mesh.status.node4", "$SRV.PING"):
        with pytest.raises(Unavailable, match="permit"):
            await raw.connection.request(subject)
