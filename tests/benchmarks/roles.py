"""What an operator waits for: a promotion or demotion until files are there or gone, a wait, a verify, new keys."""

import asyncio
import time
from pathlib import Path

from protocol.errors import Unavailable
from protocol.key_messages import RenewalQuery, RenewCrypto, Renewed
from protocol.operator_messages import Changed, NodeModify
from protocol.verify_messages import ClusterVerified, ClusterVerify
from tests.benchmarks.converge import pause
from tests.benchmarks.floor import Floor
from tests.benchmarks.mesh import CONFIG_DATA, SECRET, Mesh
from tests.benchmarks.results import Meter, Result

WAITS_PER_REPETITION = 10
FOLLOW_AGAIN_S = 0.05


async def promotion(mesh: Mesh, floor: Floor, name: str, *, repetitions: int, target: float) -> list[Result]:
    """Return what `node modify -C yes` and `-C no` take, from the request until nothing is missing any more."""
    node = mesh.receivers[-1]
    here = [mesh.on_disk(node, path) for path in (CONFIG_DATA, SECRET)]
    sources = [mesh.on_disk(mesh.master_node, path) for path in (CONFIG_DATA, SECRET)]
    promoted, demoted, floors = [], [], []
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        await pause()
        floors.append(floor.measure_ms([source.read_bytes() for source in sources], readers=1))
        promoted.append(await _modify(mesh, node, is_candidate=True))
        _require(here, sources)
        await pause()
        demoted.append(await _modify(mesh, node, is_candidate=False))
        assert not any(path.exists() for path in here), f"{node} was demoted and still holds {here}"
    used = meter.read()
    return [
        Result(name=name, unit="ms", values=tuple(promoted), floor=tuple(floors), target=target, used=used),
        Result(name=name.replace("promotion", "demotion"), unit="ms", values=tuple(demoted)),
    ]


async def wait_barrier(mesh: Mesh, name: str, *, repetitions: int) -> Result:
    """Return what one `wait` costs when all nodes hold everything already."""
    values = []
    await mesh.wait()
    meter = Meter(mesh.children)
    for _ in range(repetitions * WAITS_PER_REPETITION):
        started_ns = time.monotonic_ns()
        await mesh.wait()
        values.append((time.monotonic_ns() - started_ns) / 1e6)
    return Result(name=name, unit="ms", values=tuple(values), used=meter.read())


async def renew_crypto(mesh: Mesh, name: str, *, repetitions: int, target: float) -> Result:
    """Return what it takes until cluster and nodes have new keys and certificates. Who looks on is cut off."""
    values = []
    await mesh.wait()
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        started_ns = time.monotonic_ns()
        renewed = await mesh.operator.ask("keys.renew", RenewCrypto(), Renewed)
        while not renewed.is_over:
            try:
                query = RenewalQuery(run=renewed.run, patience_s=0.5)
                renewed = await mesh.operator.ask("keys.follow", query, Renewed)
            except Unavailable:
                await asyncio.sleep(FOLLOW_AGAIN_S)
        values.append((time.monotonic_ns() - started_ns) / 1e6)
        assert not renewed.failed, renewed.failed[:3]
        await mesh.wait()
    return Result(name=name, unit="ms", values=tuple(values), target=target, used=meter.read())


async def verify(mesh: Mesh, name: str, *, repetitions: int, target: float) -> Result:
    """Return what one `cluster verify` takes, in which every node reads all its files again and nothing is wrong."""
    values = []
    await mesh.wait()
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        started_ns = time.monotonic_ns()
        reply = await mesh.operator.ask("cluster.verify", ClusterVerify(patience_s=5.0), ClusterVerified)
        values.append((time.monotonic_ns() - started_ns) / 1e6)
        assert reply.is_over and reply.nodes == len(mesh.nodes) and not reply.findings, reply
    return Result(name=name, unit="ms", values=tuple(values), target=target, used=meter.read())


async def _modify(mesh: Mesh, node: str, *, is_candidate: bool) -> float:
    started_ns = time.monotonic_ns()
    changed = await mesh.operator.ask("node.modify", NodeModify(name=node, master_candidate=is_candidate), Changed)
    await mesh.wait(changed.goal)
    return (time.monotonic_ns() - started_ns) / 1e6


def _require(here: list[Path], sources: list[Path]) -> None:
    for path, source in zip(here, sources, strict=True):
        assert path.read_bytes() == source.read_bytes(), f"{path} is not what the master has"
