"""Coming back: a node that was down for some generations, and a broker that was killed."""

import os
import subprocess
import sys
import time

from protocol.names import ALL
from tests.benchmarks.child import REPOSITORY
from tests.benchmarks.converge import once, pause
from tests.benchmarks.mesh import Mesh, managed
from tests.benchmarks.results import Meter, Result

GENERATIONS_MISSED = 10
FILE_BYTES = 16 * 1024


async def catch_up(mesh: Mesh, name: str, *, repetitions: int) -> Result:
    """Return the time from the start of an agent's process until its receipt for what it missed meanwhile."""
    node = mesh.receivers[-1]
    agent = mesh.agents[node]
    values = []
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        agent.kill()
        present = [other for other in mesh.nodes if other != node]
        for _ in range(GENERATIONS_MISSED):
            generation = mesh.receipts.generation(mesh.master_node, ALL) + 1
            content = os.urandom(FILE_BYTES)
            mesh.edit({managed(0): content})
            await mesh.receipts.until(present, ALL, generation)
        mesh.receipts.forget()
        started_ns = time.monotonic_ns()
        agent.start()
        await mesh.receipts.until([node], ALL, generation)
        values.append((mesh.receipts.last_ns([node], ALL, generation) - started_ns) / 1e6)
        wrong = mesh.differs({managed(0): content})
        assert not wrong, f"not on disk: {wrong}"
        await pause()
    facts = {"generations_missed": GENERATIONS_MISSED, "of_which_start_ms": round(_start_ms(), 1)}
    return Result(name=name, unit="ms", values=tuple(values), used=meter.read(), facts=facts)


async def broker_kill(mesh: Mesh, name: str, *, repetitions: int) -> Result:
    """Return the time from the broker's death until all nodes hold an edit that was made while it was down."""
    values = []
    meter = Meter(mesh.children)
    for _ in range(repetitions):
        content = {managed(0): os.urandom(FILE_BYTES)}
        before = mesh.generation
        mesh.receipts.forget()
        started_ns = time.monotonic_ns()
        mesh.broker.kill()
        mesh.edit(content)
        mesh.broker.start()
        await mesh.receipts.until(mesh.nodes, ALL, before + 1)
        values.append((mesh.receipts.last_ns(mesh.nodes, ALL, before + 1) - started_ns) / 1e6)
        wrong = mesh.differs(content)
        assert not wrong, f"not on disk: {wrong[:3]}"
        await mesh.wait()
        await once(mesh, {managed(0): os.urandom(FILE_BYTES)})
        await pause()
    return Result(name=name, unit="ms", values=tuple(values), used=meter.read())


def _start_ms() -> float:
    """How long an interpreter needs to import the agent and end: the part of a start that no protocol can shorten."""
    started_ns = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", "import node_agent.__main__"], cwd=REPOSITORY, check=True)
    return (time.monotonic_ns() - started_ns) / 1e6
