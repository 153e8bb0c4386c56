"""OS jobs: how soon a script runs, how soon its output is seen, whether limits hold, how many a fleet gets through.

The master runs in the bench's own process and takes requests there; agents are processes of their own, runners and
scripts as in earnest. Every run is counted by its script, so that a lost job or a second run ends the measurement.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection
from pathlib import Path
from typing import Final

import structlog

from protocol.job_messages import ENDED
from protocol.names import NodeName
from protocol.operator_job_messages import JobFollow, JobNews
from tests.benchmarks.results import Result
from tests.support.job_mesh import MASTER, NODE, JobMesh, an_os, create, job_mesh

NAMES: Final = ("job-first-instruction", "job-output-line", "job-50-on-a-node", "jobs-1000-on-100")

LIMIT: Final = 4
FLEET: Final = 100
FLEET_JOBS: Final = 1000
LINES: Final = 20
STEP_TIMEOUT_S: Final = 600.0


async def run(directory: Path, wanted: Collection[str], repetitions: int) -> AsyncGenerator[Result, None]:
    """Yield the results of the wanted cases."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if set(NAMES[:3]) & set(wanted):
        async with job_mesh(_made(directory / "jobs")) as mesh:
            mesh.kill_agent()
            mesh.start_agent(jobs_at_once=LIMIT)
            await mesh.online()
            if NAMES[0] in wanted:
                yield await _first_instruction(mesh, repetitions)
            if NAMES[1] in wanted:
                yield await _output_line(mesh)
            if NAMES[2] in wanted:
                yield await _many_on_a_node(mesh)
    if NAMES[3] in wanted:
        nodes = (MASTER, *(NodeName(f"node{number}") for number in range(2, FLEET + 2)))
        async with job_mesh(_made(directory / "fleet"), nodes) as mesh:
            yield await _fleet(mesh, nodes[1:])


async def _first_instruction(mesh: JobMesh, repetitions: int) -> Result:
    """From the request to the time stamp of a file that the script makes first."""
    values = []
    for number in range(repetitions):
        mark = mesh.tmp_path / f"first-{number}"
        an_os(mesh.root(NODE) / "srv/ganeti/os", f"first{number}", create=f": > {mark}")
        await asyncio.sleep(0.5)  # an idle node
        requested_ns = time.time_ns()
        await mesh.submit(create(f"first-{number}", f"first{number}"))
        await _ended(mesh, [f"first-{number}"])
        values.append((mark.stat().st_mtime_ns - requested_ns) / 1e6)
    return Result(name=NAMES[0], unit="ms", values=tuple(values), target=50.0)


async def _output_line(mesh: JobMesh) -> Result:
    """From a script's clock, printed as a line, to an operator who follows the job."""
    mesh.os("talks", f"for i in $(seq {LINES}); do date +%s%N; sleep 0.1; done")
    await mesh.submit(create("talks", "talks"))
    values: list[float] = []
    async with mesh.operator() as operator:
        question = JobFollow(id="talks")
        while True:
            news = await operator.ask("job.follow", question, JobNews)
            now_ns = time.time_ns()
            values += [(now_ns - int(line)) / 1e6 for line in news.text.split()]
            question = JobFollow(id="talks", offset=news.offset, revision=news.revision)
            if news.job.status in ENDED and not news.has_more:
                break
    assert len(values) == LINES, values
    return Result(name=NAMES[1], unit="ms", values=tuple(values), target=100.0, judged="max")


async def _many_on_a_node(mesh: JobMesh) -> Result:
    """50 requests at once: the limit holds, and all of them end."""
    now, most = mesh.tmp_path / "now", mesh.tmp_path / "most"
    now.mkdir()
    mesh.os("counts", f"touch {now}/$$; ls {now} | wc -l >> {most}; sleep 0.05; rm {now}/$$")
    started_s = time.monotonic()
    ids = [f"of-50-{number}" for number in range(50)]
    for job in ids:
        await mesh.submit(create(job, "counts", instance=f"i-{job}"))
    await _ended(mesh, ids)
    took_s = time.monotonic() - started_s
    running = max(int(line) for line in most.read_text().split())
    assert running <= LIMIT, f"{running} jobs at once, limit {LIMIT}"
    _count(mesh, [f"i-{job}" for job in ids])
    return Result(name=NAMES[2], unit="s", values=(took_s,), facts={"limit": LIMIT, "most_at_once": running})


async def _fleet(mesh: JobMesh, nodes: Collection[NodeName]) -> Result:
    """1000 jobs over 100 agents, of which most share two processes; each node keeps its limit of two."""
    mesh.kill_agent()
    for node in nodes:
        mesh.os("quick", "exit 0", node)
    mesh.start_swarm(nodes, spare_runner=False)
    for node in nodes:
        await mesh.online(node)
    ids = [f"j{number}" for number in range(FLEET_JOBS)]
    started_s = time.monotonic()
    places = list(nodes)
    for number, job in enumerate(ids):
        await mesh.submit(create(job, "quick", node=places[number % len(places)], instance=f"i-{job}"))
    taken_s = time.monotonic() - started_s
    await _ended(mesh, ids)
    took_s = time.monotonic() - started_s
    _count(mesh, [f"i-{job}" for job in ids])
    facts = {"nodes": len(places), "jobs": len(ids), "requests_took_s": round(taken_s, 2), "lost": 0, "run_twice": 0}
    return Result(name=NAMES[3], unit="jobs/s", values=(len(ids) / took_s,), facts=facts)


async def _ended(mesh: JobMesh, ids: Collection[str]) -> None:
    """Return when all have ended well; how the master hears of it is what it shows operators."""
    async with asyncio.timeout(STEP_TIMEOUT_S):
        for job in ids:
            while (info := mesh.daemon.jobs.info(job)).status not in ENDED:
                await mesh.daemon.progress.wait(1.0)
            assert info.status == "success", info


def _count(mesh: JobMesh, instances: Collection[str]) -> None:
    runs = [run for run in mesh.runs() if run in set(instances)]
    assert sorted(runs) == sorted(instances), f"{len(runs)} runs of {len(instances)} jobs"


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory
