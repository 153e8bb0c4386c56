"""What a mesh costs that has nothing to do."""

import asyncio
import time
from collections.abc import Sequence

from tests.benchmarks.child import Child
from tests.benchmarks.mesh import Mesh
from tests.benchmarks.results import Result

CPU_TARGET_PERCENT = 0.3
RSS_TARGET_MB = 45.0


async def idle(mesh: Mesh, name: str, *, interval_s: float) -> list[Result]:
    """Return CPU share and memory of each kind of process over an interval in which nothing changes.

    An interval before it is thrown away: in it the agents still look at what they wrote themselves.
    """
    await _shares(mesh.children, interval_s / 2)
    shares = await _shares(mesh.children, interval_s)
    agents = [] if mesh.shape.is_swarm else [mesh.agents[node] for node in mesh.receivers]
    results = []
    for who, children in (("agent", agents), ("master", [mesh.master]), ("broker", [mesh.broker])):
        if not children:
            continue
        is_agent = who == "agent"
        results += [
            Result(
                name=f"{name}-{who}-cpu",
                unit="%",
                values=tuple(shares[child.name] for child in children),
                target=CPU_TARGET_PERCENT if is_agent else None,
                judged="max",
                facts={"interval_s": interval_s},
            ),
            Result(
                name=f"{name}-{who}-rss",
                unit="MB",
                values=tuple(child.rss_mb() for child in children),
                target=RSS_TARGET_MB if is_agent else None,
                judged="max",
            ),
        ]
    return results


async def _shares(children: Sequence[Child], interval_s: float) -> dict[str, float]:
    """Return how much of a core each process used while this long passed, in per cent."""
    started_ns = time.monotonic_ns()
    before = {child.name: child.cpu_ns() for child in children}
    await asyncio.sleep(interval_s)
    took_ns = time.monotonic_ns() - started_ns
    return {child.name: 100 * (child.cpu_ns() - before[child.name]) / took_ns for child in children}
