"""From the rename of a source until the last node's receipt, alternating with the floor."""

import asyncio
import hashlib
import os
import random
from collections.abc import Mapping, Sequence

from protocol.names import ALL, ManagedPath
from protocol.operator_messages import FileInfos, FileQuery
from tests.benchmarks.floor import Floor
from tests.benchmarks.mesh import SWARM_PROCESSES, Mesh, managed
from tests.benchmarks.results import Meter, Result

PAUSE_S = (0.5, 1.5)
"""Between two repetitions, at random: none begins in the wake of another, or always in step with a tick or a beat."""


async def pause() -> None:
    await asyncio.sleep(random.uniform(*PAUSE_S))


def floor_for(mesh: Mesh) -> Floor:
    """Return a floor with a reader per receiving node, in as many processes as the mesh has for them."""
    receivers = len(mesh.receivers)
    return Floor(mesh.directory / "floor", receivers, processes=SWARM_PROCESSES if mesh.shape.is_swarm else receivers)


async def measure(
    mesh: Mesh, floor: Floor, name: str, *, sizes: Sequence[int], repetitions: int, target: float | None = None
) -> Result:
    """Return the time that new contents of these sizes need, renamed together, to be on every node's disk."""
    await once(mesh, _contents(sizes))
    floor.measure_ms(list(_contents(sizes).values()))
    values, floors, generations = [], [], []
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        await pause()
        contents = _contents(sizes)
        floors.append(floor.measure_ms(list(contents.values())))
        took_ms, steps = await once(mesh, contents)
        values.append(took_ms)
        generations.append(steps)
    return Result(
        name=name,
        unit="ms",
        values=tuple(values),
        floor=tuple(floors),
        target=target,
        used=meter.read(),
        facts={"bytes": sum(sizes), "files": len(sizes), "generations_per_repetition": generations},
    )


async def once(mesh: Mesh, contents: Mapping[ManagedPath, bytes]) -> tuple[float, int]:
    """Return the time of one change in ms and the number of generations it took; prove the bytes on every disk."""
    before = mesh.generation
    mesh.receipts.forget()
    started_ns = mesh.edit(contents)
    generation = before + 1
    while True:
        await mesh.receipts.until(mesh.nodes, ALL, generation)
        published = await _generation_of(mesh, contents)
        if published > before:
            break
        generation += 1
    await mesh.receipts.until(mesh.nodes, ALL, published)
    ended_ns = mesh.receipts.last_ns(mesh.nodes, ALL, published)
    wrong = mesh.differs(contents)
    assert not wrong, f"receipts for {published}, but not on disk: {wrong[:3]}"
    return (ended_ns - started_ns) / 1e6, published - before


async def _generation_of(mesh: Mesh, contents: Mapping[ManagedPath, bytes]) -> int:
    """Return the generation in which the last of these contents was published, 0 while one of them is not."""
    infos = (await mesh.operator.ask("file.list", FileQuery(paths=tuple(contents)), FileInfos)).files
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    if any(info.published is None or info.published.digest != digests[info.path] for info in infos):
        return 0
    return max(info.published.generation for info in infos if info.published)


def _contents(sizes: Sequence[int]) -> dict[ManagedPath, bytes]:
    return {managed(number): os.urandom(size) for number, size in enumerate(sizes)}
