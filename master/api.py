"""What operators can ask: one handler per verb, each a few lines between the wire and the daemon."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

from master.core import operations
from master.core.cluster import AncillaryFile, Node, role_letter
from master.core.fleet import nodes_of
from master.core.plan import builtin_files
from master.daemon import MasterDaemon
from protocol import operator_messages as op
from protocol.bus import Handler
from protocol.errors import Refused
from protocol.messages import FileEntry
from protocol.names import MASTER_CANDIDATES, ManagedPath, group_scope

PATIENCE_S_MAX = 5.0


class Api:
    """The operators' verbs. Requests come decoded; a Refused goes back as the sentence that it is."""

    def __init__(self, daemon: MasterDaemon, *, version: str) -> None:
        self._daemon = daemon
        self._version = version
        self._builtin = builtin_files(ManagedPath(str(daemon.settings.config_data)))

    def handlers(self) -> Mapping[str, tuple[type, Handler]]:
        """Return request type and handler per verb."""
        return {
            "status": (op.Nothing, self.status),
            "wait": (op.WaitRequest, self.wait),
            "cluster.info": (op.Nothing, self.cluster_info),
            "cluster.redist-conf": (op.RedistConf, self.redist_conf),
            "node.add": (op.NodeAdd, self.node_add),
            "node.list": (op.NodeQuery, self.node_list),
            "node.modify": (op.NodeModify, self.node_modify),
            "node.remove": (op.NodeRemove, self.node_remove),
            "group.add": (op.GroupAdd, self.group_add),
            "group.list": (op.Nothing, self.group_list),
            "group.remove": (op.GroupRemove, self.group_remove),
            "file.add": (op.FileAdd, self.file_add),
            "file.list": (op.FileQuery, self.file_list),
            "file.modify": (op.FileModify, self.file_modify),
            "file.remove": (op.FileRemove, self.file_remove),
        }

    async def status(self, request: op.Nothing) -> op.ClusterStatus:
        daemon = self._daemon
        nodes = daemon.config.sorted_nodes()
        members = [scope for node in nodes for scope in daemon.config.scopes_of(node)]
        return op.ClusterStatus(
            cluster=daemon.config.cluster.cluster_name,
            master=daemon.config.master.name,
            epoch=daemon.config.cluster.epoch,
            scopes={
                scope: op.ScopeInfo(
                    generation=daemon.manifests[scope].generation,
                    files=len(daemon.manifests[scope].files),
                    nodes=members.count(scope),
                    size_bytes=sum(entry.size_bytes for entry in daemon.manifests[scope].files),
                )
                for scope in daemon.config.scopes()
                if scope in daemon.manifests
            },
            nodes=self._infos(nodes),
            errors=daemon.problems,
            refusals=daemon.refusals,
        )

    async def wait(self, request: op.WaitRequest) -> op.WaitReply:
        """Answer as soon as the goal is reached, or with what is missing when patience ends."""
        daemon = self._daemon
        goal = request.goal or await self._goal_of(request)
        deadline_s = time.monotonic() + min(max(request.patience_s, 0.0), PATIENCE_S_MAX)
        while True:
            now_s = time.monotonic()
            missing = (*self._unshipped(goal), *daemon.fleet.missing(daemon.config, goal, now_s))
            if not missing or now_s >= deadline_s:
                return op.WaitReply(goal=goal, missing=missing, nodes_total=len(nodes_of(daemon.config, goal)))
            await daemon.progress(deadline_s - now_s)

    async def cluster_info(self, request: op.Nothing) -> op.ClusterInfo:
        daemon, config = self._daemon, self._daemon.config
        return op.ClusterInfo(
            name=config.cluster.cluster_name,
            uuid=config.cluster.uuid,
            master=config.master.name,
            epoch=config.cluster.epoch,
            candidate_pool_size=config.cluster.candidate_pool_size,
            serial_no=config.serial_no,
            nodes=len(config.nodes),
            master_candidates=tuple(node.name for node in config.sorted_nodes() if node.master_candidate),
            groups=tuple(sorted(group.name for group in config.nodegroups.values())),
            files=len(daemon.files()),
            generation=daemon.store.generation,
            history=daemon.store.kept,
            master_version=self._version,
            broker_version=daemon.broker_version,
            ctime=config.ctime,
            mtime=config.mtime,
        )

    async def redist_conf(self, request: op.RedistConf) -> op.Changed:
        goal = await self._daemon.look_everywhere()
        return op.Changed(goal=goal, done=("Every source was read again; every node reads its own files again.",))

    async def node_add(self, request: op.NodeAdd) -> op.Changed:
        node_uuid = str(uuid.uuid4())
        goal = await self._daemon.change(
            lambda config, now: operations.add_node(config, request, uuid=node_uuid, now=now),
            why=f"node add {request.name}",
        )
        node = self._daemon.config.nodes[node_uuid]
        role = "as a master candidate" if node.master_candidate else "as a regular node"
        return op.Changed(goal=self._goal_for(goal, node), done=(f"Node {node.name} added {role}.",))

    async def node_list(self, request: op.NodeQuery) -> op.NodeInfos:
        config = self._daemon.config
        nodes = tuple(config.node(name) for name in request.names) if request.names else config.sorted_nodes()
        return op.NodeInfos(nodes=self._infos(nodes))

    async def node_modify(self, request: op.NodeModify) -> op.Changed:
        before = self._daemon.config
        goal = await self._daemon.change(
            lambda config, now: operations.modify_node(config, request, now=now), why=f"node modify {request.name}"
        )
        config = self._daemon.config
        after = config.node(request.name)
        done = [f"Modified node {after.name}", *_flag_lines(before.node(request.name), after)]
        for node in config.sorted_nodes():
            if node.uuid != after.uuid and node.master_candidate and not before.nodes[node.uuid].master_candidate:
                done.append(f"Node {node.name} was promoted to master candidate to keep the pool full.")
        if role_letter(before, before.node(request.name)) == "C" and not after.master_candidate:
            done.append(f"It no longer gets {MASTER_CANDIDATES}; secrets it has held should be renewed.")
        return op.Changed(goal=self._goal_for(goal, after), done=tuple(done))

    async def node_remove(self, request: op.NodeRemove) -> op.Changed:
        goal = await self._daemon.change(
            lambda config, now: operations.remove_node(config, request, now=now), why=f"node remove {request.name}"
        )
        done = f"Node {request.name} removed; the broker no longer knows its key. Its files stay where they are."
        return op.Changed(goal=goal, done=(done,))

    async def group_add(self, request: op.GroupAdd) -> op.Changed:
        group_uuid = str(uuid.uuid4())
        goal = await self._daemon.change(
            lambda config, now: operations.add_group(config, request, uuid=group_uuid, now=now),
            why=f"group add {request.name}",
        )
        scope = group_scope(self._daemon.config.nodegroups[group_uuid].name)
        return op.Changed(goal=goal, done=(f"Node group {request.name} added; its scope is {scope}.",))

    async def group_list(self, request: op.Nothing) -> op.GroupInfos:
        config = self._daemon.config
        return op.GroupInfos(
            groups=tuple(
                op.GroupInfo(
                    name=group.name,
                    uuid=group.uuid,
                    nodes=tuple(node.name for node in config.sorted_nodes() if node.group == group.uuid),
                )
                for group in sorted(config.nodegroups.values(), key=lambda group: group.name)
            )
        )

    async def group_remove(self, request: op.GroupRemove) -> op.Changed:
        goal = await self._daemon.change(
            lambda config, now: operations.remove_group(config, request, now=now), why=f"group remove {request.name}"
        )
        return op.Changed(goal=goal, done=(f"Node group {request.name} removed.",))

    async def file_add(self, request: op.FileAdd) -> op.Changed:
        goal = await self._daemon.change(
            lambda config, now: operations.add_file(config, request, builtin=self._builtin, now=now),
            why=f"file add {request.path}",
        )
        done = [f"{request.path} is managed, scope {request.scope}.", *self._problem_lines(request.path)]
        return op.Changed(goal=self._goal_of_scopes(goal, {request.scope}), done=tuple(done))

    async def file_list(self, request: op.FileQuery) -> op.FileInfos:
        files = self._daemon.files()
        known = {file.path for file in files}
        for path in request.paths:
            if path not in known:
                raise Refused(f"{path} is not managed; see: gnt-mesh file list")
        published = {entry.path: entry for manifest in self._daemon.manifests.values() for entry in manifest.files}
        wanted = [file for file in files if not request.paths or file.path in request.paths]
        return op.FileInfos(files=tuple(self._file_info(file, published.get(file.path)) for file in wanted))

    async def file_modify(self, request: op.FileModify) -> op.Changed:
        goal = await self._daemon.change(
            lambda config, now: operations.modify_file(config, request, now=now), why=f"file modify {request.path}"
        )
        return op.Changed(goal=goal, done=(f"{request.path} modified.", *self._problem_lines(request.path)))

    async def file_remove(self, request: op.FileRemove) -> op.Changed:
        scopes = {file.scope for file in self._daemon.files() if file.path == request.path}
        goal = await self._daemon.change(
            lambda config, now: operations.remove_file(config, request, now=now), why=f"file remove {request.path}"
        )
        kept = "no copy is kept" if request.purge or MASTER_CANDIDATES in scopes else "each keeps a dated backup"
        done = f"{request.path} is no longer managed; the nodes remove it, {kept}. The source on the master stays."
        return op.Changed(goal=self._goal_of_scopes(goal, set(scopes)), done=(done,))

    def _infos(self, nodes: tuple[Node, ...]) -> tuple[op.NodeInfo, ...]:
        daemon, now_s = self._daemon, time.monotonic()
        return tuple(daemon.fleet.info(daemon.config, node, daemon.manifests, now_s) for node in nodes)

    def _file_info(self, file: AncillaryFile, published: FileEntry | None) -> op.FileInfo:
        return op.FileInfo(
            path=file.path,
            scope=file.scope,
            optional=file.optional,
            allow_empty=file.allow_empty,
            builtin=file.path in self._builtin,
            published=published,
            error=" ".join(problem.reason for problem in self._daemon.problems if problem.path == file.path),
        )

    def _problem_lines(self, path: str) -> list[str]:
        return [f"But {path} {problem.reason}." for problem in self._daemon.problems if problem.path == path]

    async def _goal_of(self, request: op.WaitRequest) -> op.Goal:
        """All that is true now, edits made before the request included; for all, or for what the request names."""
        daemon = self._daemon
        await daemon.refresh(None, "a source changed")
        for name in request.nodes:
            daemon.config.node(name)
        for scope in request.scopes:
            if scope not in daemon.config.scopes():
                raise Refused(f"scope {scope} does not exist; there are {', '.join(daemon.config.scopes())}")
        counted = [node for node in daemon.config.sorted_nodes() if not request.nodes or node.name in request.nodes]
        goal = daemon.goal_now(serials={node.name: node.serial_no for node in counted if not node.offline})
        goal = replace(
            goal, nodes=request.nodes, sources=not request.nodes or daemon.config.master.name in request.nodes
        )
        return self._goal_of_scopes(goal, set(request.scopes)) if request.scopes else goal

    def _unshipped(self, goal: op.Goal) -> tuple[op.Missing, ...]:
        master = self._daemon.config.master.name
        return tuple(
            op.Missing(node=master, scope=problem.scope, path=problem.path, reason=problem.reason)
            for problem in self._daemon.problems
            if goal.sources and problem.scope in goal.generations
        )

    def _goal_of_scopes(self, goal: op.Goal, scopes: set[str]) -> op.Goal:
        generations = {scope: number for scope, number in goal.generations.items() if scope in scopes}
        return replace(goal, generations=generations, serials={})

    def _goal_for(self, goal: op.Goal, node: Node) -> op.Goal:
        """One node has all it must, and so have others whose role changed with it; an offline one is not waited for."""
        waited_for = [name for name in sorted({node.name, *goal.serials}) if not self._daemon.config.node(name).offline]
        if not waited_for:
            return replace(goal, generations={}, serials={})
        return replace(goal, nodes=tuple(waited_for))


def _flag_lines(before: Node, after: Node) -> list[str]:
    """One line per flag that is not what it was, in the words of `gnt-node modify`."""
    flags = ("master_candidate", "offline", "drained", "master_capable", "vm_capable", "group", "public_key")
    return [f" - {flag} -> {getattr(after, flag)}" for flag in flags if getattr(before, flag) != getattr(after, flag)]
