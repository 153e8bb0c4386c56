"""What is measured, on which mesh, against which target. The order is the order of the table."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import converge, idle, jobs, outages, roles, stages
from tests.benchmarks.floor import Floor
from tests.benchmarks.mesh import Mesh, Shape, running
from tests.benchmarks.results import Result

KIB = 1024
MIB = 1024 * 1024
SMALL_FILES = (20 * KIB,) * 25


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    repetitions: int = 7
    idle_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What a case is given."""

    mesh: Mesh
    floor: Floor
    effort: Effort
    name: str


Case = Callable[[Bench], Awaitable[list[Result]]]


def _change(*sizes: int, target: float | None = None) -> Case:
    async def case(bench: Bench) -> list[Result]:
        repetitions = bench.effort.repetitions
        given = {"sizes": sizes, "repetitions": repetitions, "target": target}
        return [await converge.measure(bench.mesh, bench.floor, bench.name, **given)]  # type: ignore[arg-type]

    return case


def _promotion(target: float) -> Case:
    async def case(bench: Bench) -> list[Result]:
        repetitions = bench.effort.repetitions
        return await roles.promotion(bench.mesh, bench.floor, bench.name, repetitions=repetitions, target=target)

    return case


async def _wait(bench: Bench) -> list[Result]:
    return [await roles.wait_barrier(bench.mesh, bench.name, repetitions=bench.effort.repetitions)]


async def _verify(bench: Bench) -> list[Result]:
    return [await roles.verify(bench.mesh, bench.name, repetitions=bench.effort.repetitions, target=1000.0)]


async def _renew_crypto(bench: Bench) -> list[Result]:
    return [await roles.renew_crypto(bench.mesh, bench.name, repetitions=bench.effort.repetitions, target=10_000.0)]


async def _catch_up(bench: Bench) -> list[Result]:
    return [await outages.catch_up(bench.mesh, bench.name, repetitions=bench.effort.repetitions)]


async def _broker_kill(bench: Bench) -> list[Result]:
    return [await outages.broker_kill(bench.mesh, bench.name, repetitions=bench.effort.repetitions)]


async def _idle(bench: Bench) -> list[Result]:
    return await idle.idle(bench.mesh, bench.name, interval_s=bench.effort.idle_s)


def _stages(*, files: int) -> Case:
    async def case(bench: Bench) -> list[Result]:
        return await stages.stages(bench.mesh, bench.name, files=files, repetitions=bench.effort.repetitions)

    return case


FEW, FEW_FILES, MANY_FILES, MANY = Shape(3), Shape(3, files=3), Shape(3, files=1000), Shape(100, is_swarm=True)

CASES: dict[Shape, dict[str, Case]] = {
    FEW: {
        "16k-3": _change(16 * KIB, target=50.0),
        "25-files-3": _change(*SMALL_FILES, target=120.0),
        "1m-3": _change(MIB),
        "10m-3": _change(10 * MIB),
        "promotion-3": _promotion(100.0),
        "wait-3": _wait,
        "catch-up-3": _catch_up,
        "broker-kill-3": _broker_kill,
        "stages-3": _stages(files=1),
        "stages-25-files-3": _stages(files=25),
    },
    FEW_FILES: {"idle-3-files": _idle},
    MANY_FILES: {
        "idle-1000-files": _idle,
        "16k-of-1000-files": _change(16 * KIB),
        "wait-1000-files": _wait,
    },
    MANY: {
        "16k-100": _change(16 * KIB, target=250.0),
        "25-files-100": _change(*SMALL_FILES),
        "1m-100": _change(MIB),
        "promotion-100": _promotion(100.0),
        "wait-100": _wait,
        "verify-100": _verify,
        "broker-kill-100": _broker_kill,
        "idle-100": _idle,
        "renew-crypto-100": _renew_crypto,
    },
}

NAMES = (*(name for group in CASES.values() for name in group), *jobs.NAMES)


async def run(directory: Path, wanted: Collection[str], effort: Effort) -> AsyncGenerator[Result, None]:
    """Yield the results of the wanted cases; one mesh serves all cases of its shape, one after another."""
    for shape, group in CASES.items():
        chosen = {name: case for name, case in group.items() if name in wanted}
        if not chosen:
            continue
        async with AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(running(directory / f"mesh-{shape.receivers}-{shape.files}", shape))
            floor = converge.floor_for(mesh)
            stack.callback(floor.close)
            floor.open()
            for name, case in chosen.items():
                for result in await case(Bench(mesh, floor, effort, name)):
                    yield result
    async for result in jobs.run(directory, wanted, effort.repetitions):
        yield result
