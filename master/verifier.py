"""Runs `cluster verify`: asks all nodes for what is on their disks, side by side, and keeps what was found to be read.

One run at a time: those asked for meanwhile wait for their turn, because what they are to find is how things are
after they were asked for.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from master.core.cluster import Node
from master.core.expiry import expiry_findings
from master.core.fleet import Fleet
from master.core.verify import Verification
from master.desired import Desired
from master.progress import Progress
from protocol.bus import MasterBus
from protocol.errors import DecodeError, Refused, Unavailable
from protocol.key_messages import KeyInfo
from protocol.names import ManagedPath, is_secret
from protocol.verify_messages import FilesSeen, Finding, LookAtFiles

RUNS_WAITING_MAX: Final = 4
RUNS_KEPT_MAX: Final = 4
NODES_AT_ONCE: Final = 48
"""Answers on their way together stay below what the client queues, were they all as large as they can be."""

ROUNDS_MAX: Final = 3
"""What changes while it is looked at is looked at again so often."""

SETTLE_S: Final = 3.0
"""How long nodes that are fetching what was just published are given before they are asked."""

log = structlog.get_logger()


@dataclass(slots=True)
class Run:
    """One verify of some nodes, from when it was asked for until its findings have been read."""

    group: str
    node_timeout_s: float
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    over: asyncio.Event = field(default_factory=asyncio.Event)
    nodes: int = 0
    nodes_done: int = 0
    files: int = 0
    offline: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Verifier:
    """`start` and `find` are for the operators' API; `work` does the runs."""

    def __init__(self, desired: Desired, *, fleet: Fleet, progress: Progress) -> None:
        self._desired = desired
        self._fleet = fleet
        self._progress = progress
        self._runs: dict[str, Run] = {}
        self._waiting: asyncio.Queue[Run] = asyncio.Queue()

    def start(self, *, group: str, node_timeout_s: float) -> Run:
        """Return a run whose turn will come. Unavailable if too many wait already."""
        if sum(not run.over.is_set() for run in self._runs.values()) >= RUNS_WAITING_MAX:
            raise Unavailable(f"{RUNS_WAITING_MAX} verifies are under way already; try again when they are over")
        run = Run(group, node_timeout_s)
        done = [token for token, other in self._runs.items() if other.over.is_set()]
        for token in done[: max(len(done) - RUNS_KEPT_MAX + 1, 0)]:
            del self._runs[token]
        self._runs[run.token] = run
        self._waiting.put_nowait(run)
        return run

    def find(self, token: str) -> Run:
        """Return a run by its token; Refused if its findings are no longer kept."""
        if token not in self._runs:
            raise Refused(f"verify {token[:40]} is not known here any more; run it again")
        return self._runs[token]

    async def work(self, bus: MasterBus) -> None:
        """Do the runs, one after another, until cancelled."""
        while True:
            run = await self._waiting.get()
            started_s = time.monotonic()
            await self._do(bus, run)
            run.over.set()
            took_s = round(time.monotonic() - started_s, 3)
            log.info("verified", nodes=run.nodes, files=run.files, findings=len(run.findings), took_s=took_s)

    async def _do(self, bus: MasterBus, run: Run) -> None:
        desired = self._desired
        verification = Verification(run.group)
        await desired.refresh(None, "cluster verify")
        for round_number in range(ROUNDS_MAX):
            await self._settle()
            if run.group and run.group not in {group.name for group in desired.config.nodegroups.values()}:
                return  # removed since it was asked for
            paths = verification.expect(desired.config, desired.files(), desired.manifests)
            if not paths and round_number:
                break
            await self._ask_all(bus, run, verification, paths)
        config = desired.config
        run.files = verification.files
        run.offline = tuple(node.name for node in config.sorted_nodes() if node.offline)
        findings = verification.findings(config.master.name, desired.problems)
        files = (self._without_hashes(finding) for finding in findings)
        run.findings = (*expiry_findings(await _certificates(bus), time.time()), *files)

    def _without_hashes(self, finding: Finding) -> Finding:
        """A secret's contents are told apart for the operator by something that cannot be found by trying."""
        secret = {file.path: file.scope for file in self._desired.files() if file.secret or is_secret(file.scope)}
        if finding.path not in secret or finding.problem != "different":
            return finding
        scope = secret[ManagedPath(finding.path)]
        hidden = (
            replace(variant, what=self._desired.vault.hidden(scope, variant.what)) for variant in finding.variants
        )
        return replace(finding, variants=tuple(hidden))

    async def _settle(self) -> None:
        """Let nodes have what was published just now: that it is on its way to them is no finding."""
        deadline_s = time.monotonic() + SETTLE_S
        config = self._desired.config
        goal = self._desired.goal_now(serials={node.name: node.serial_no for node in config.nodes.values()})
        while (now_s := time.monotonic()) < deadline_s and self._fleet.is_catching_up(config, goal, now_s):
            await self._progress.wait(deadline_s - now_s)

    async def _ask_all(
        self, bus: MasterBus, run: Run, verification: Verification, paths: frozenset[ManagedPath]
    ) -> None:
        nodes = [node for node in verification.nodes(self._desired.config) if node.name not in verification.silent]
        pages = verification.pages(paths)
        run.nodes, run.nodes_done = len(nodes) + len(verification.silent), len(verification.silent)
        slots = asyncio.Semaphore(NODES_AT_ONCE)

        async def ask(node: Node) -> None:
            async with slots:
                await self._ask(bus, run, verification, node, pages)
            run.nodes_done += 1

        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(ask(node))

    async def _ask(
        self, bus: MasterBus, run: Run, verification: Verification, node: Node, pages: list[tuple[ManagedPath, ...]]
    ) -> None:
        for page in pages:
            question = LookAtFiles(paths=page)
            try:
                answer = await bus.ask_node(node.name, "verify", question, FilesSeen, timeout_s=run.node_timeout_s)
            except (Unavailable, DecodeError) as error:
                verification.note_silent(node.name, str(error))
                return
            verification.take(node.name, page, answer.files)


async def _certificates(bus: MasterBus) -> tuple[KeyInfo, ...]:
    """Return what the broker shows; nothing while it is gone, which is no fault of a certificate's."""
    try:
        return await bus.certificates()
    except Unavailable:
        return ()
