"""The cluster as a whole: its state, what it still owes, its configuration."""

import time
from dataclasses import replace

from master.api import goals
from master.api.roles import tell
from master.core.cluster import after
from master.core.cluster_operations import cluster_changes, modify_cluster, named_files
from master.core.expiry import expiry_warnings
from master.core.fleet import nodes_of
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol import paging
from protocol.bus import Handler
from protocol.cluster_messages import ClusterModify
from protocol.errors import Refused

PATIENCE_S_MAX = 5.0


class ClusterVerbs:
    """`status`, `wait` and `cluster …`."""

    def __init__(self, daemon: MasterDaemon, *, version: str) -> None:
        self._daemon = daemon
        self._desired = daemon.desired
        self._version = version

    def handlers(self) -> dict[str, tuple[type, Handler]]:
        return {
            "status": (op.StatusQuery, self.status),
            "wait": (op.WaitRequest, self.wait),
            "cluster.info": (op.Nothing, self.info),
            "cluster.modify": (ClusterModify, self.modify),
            "cluster.redist-conf": (op.RedistConf, self.redist_conf),
        }

    async def status(self, request: op.StatusQuery) -> op.ClusterStatus:
        desired = self._desired
        nodes = desired.config.sorted_nodes()
        rest = after(nodes, request.after)
        infos = paging.fitting(self._daemon.node_infos(rest))
        errors = paging.fitting(desired.problems[max(request.errors_from, 0) :])
        members = [scope for node in nodes for scope in desired.config.scopes_of(node)]
        return op.ClusterStatus(
            cluster=desired.config.cluster.cluster_name,
            master=desired.config.master.name,
            epoch=desired.config.cluster.epoch,
            scopes={
                scope: op.ScopeInfo(
                    generation=desired.manifests[scope].generation,
                    files=len(desired.manifests[scope].files),
                    nodes=members.count(scope),
                    size_bytes=sum(entry.size_bytes for entry in desired.manifests[scope].files),
                )
                for scope in desired.config.scopes()
                if scope in desired.manifests
            },
            nodes=infos,
            errors=errors,
            refusals=self._daemon.refusals,
            warnings=expiry_warnings(await self._daemon.bus.certificates(), time.time()),
            is_complete=len(infos) == len(rest) and max(request.errors_from, 0) + len(errors) >= len(desired.problems),
        )

    async def wait(self, request: op.WaitRequest) -> op.WaitReply:
        """Answer as soon as the goal is reached, or with what is missing when patience ends."""
        daemon, desired = self._daemon, self._desired
        goal = request.goal or await self._goal_of(request)
        deadline_s = time.monotonic() + min(max(request.patience_s, 0.0), PATIENCE_S_MAX)
        while True:
            now_s = time.monotonic()
            missing = (*self._unshipped(goal), *daemon.fleet.missing(desired.config, goal, now_s))
            if not missing or now_s >= deadline_s:
                return op.WaitReply(goal=goal, missing=missing, nodes_total=len(nodes_of(desired.config, goal)))
            await daemon.progress.wait(deadline_s - now_s)

    async def info(self, request: op.Nothing) -> op.ClusterInfo:
        desired, config = self._desired, self._desired.config
        return op.ClusterInfo(
            name=config.cluster.cluster_name,
            uuid=config.cluster.uuid,
            master=config.master.name,
            epoch=config.cluster.epoch,
            candidate_pool_size=config.cluster.candidate_pool_size,
            enabled_hypervisors=config.cluster.enabled_hypervisors,
            hvparams=config.cluster.hvparams,
            modify_etc_hosts=config.cluster.modify_etc_hosts,
            use_external_mip_script=config.cluster.use_external_mip_script,
            file_hooks=config.cluster.file_hooks,
            serial_no=config.serial_no,
            nodes=len(config.nodes),
            master_candidates=tuple(node.name for node in config.sorted_nodes() if node.master_candidate),
            groups=tuple(sorted(group.name for group in config.nodegroups.values())),
            files=len(desired.files()),
            generation=desired.store.generation,
            history=desired.store.kept,
            master_version=self._version,
            broker_version=self._daemon.broker_version,
            ctime=config.ctime,
            mtime=config.mtime,
            follows=config.cluster.ganeti_config_data,
        )

    async def modify(self, request: ClusterModify) -> op.Changed:
        hypervisors, known = self._desired.surroundings.hypervisors, self._desired.problems
        await self._desired.managed.check(named_files(request, hypervisors))
        outcome = await self._desired.change(
            lambda config, now: modify_cluster(config, request, hypervisors=hypervisors, now=now),
            request,
            why="cluster modify",
        )
        lines = list(cluster_changes(outcome.before.cluster, outcome.after.cluster))
        name = outcome.after.cluster.cluster_name
        done = [f"Modified cluster {name}" if lines else f"Cluster {name} is like that already.", *lines]
        new = [] if request.dry_run else [problem for problem in outcome.problems if problem not in known]
        done += [f"But {' '.join(filter(None, (problem.path, problem.reason)))}." for problem in new]
        return tell(self._daemon, outcome, outcome.goal, done=done)

    async def redist_conf(self, request: op.RedistConf) -> op.Changed:
        outcome = await self._daemon.look_everywhere(request)
        done = ["Every source was read again; every node reads its own files again."]
        return outcome.answer(done, goal=replace(outcome.goal, sources=True))

    async def _goal_of(self, request: op.WaitRequest) -> op.Goal:
        """All that is true now, edits made before the request included; for all, or for what the request names."""
        desired = self._desired
        await desired.refresh(None, "a source changed")
        for name in request.nodes:
            desired.config.node(name)
        for scope in request.scopes:
            if scope not in desired.config.scopes():
                raise Refused(f"scope {scope} does not exist; there are {', '.join(desired.config.scopes())}")
        counted = [node for node in desired.config.sorted_nodes() if not request.nodes or node.name in request.nodes]
        goal = desired.goal_now(serials={node.name: node.serial_no for node in counted if not node.offline})
        goal = replace(
            goal, nodes=request.nodes, sources=not request.nodes or desired.config.master.name in request.nodes
        )
        return goals.of_scopes(goal, set(request.scopes)) if request.scopes else goal

    def _unshipped(self, goal: op.Goal) -> tuple[op.Missing, ...]:
        master = self._desired.config.master.name
        return tuple(
            op.Missing(node=master, scope=problem.scope, path=problem.path, reason=problem.reason)
            for problem in self._desired.problems
            if goal.sources and problem.scope in goal.generations
        )
