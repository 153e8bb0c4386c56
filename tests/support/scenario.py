"""A mesh for stories: commands in, text out, over the pure cores. Everything happens at once, and in the same order.

The runner is in tests/scenarios/test_scenarios.py; what the commands mean is in their docstrings here.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from master.core import consequences, guards, operations
from master.core.ancillary import Surroundings, check_change, managed_files
from master.core.cluster import ClusterConfig, Node, role_letter, to_text, with_cluster
from master.core.cluster_operations import modify_cluster
from master.core.explain import explain
from master.core.file_list import hook_answered
from master.core.fleet import Fleet
from master.core.globs import directory_of, is_glob, select
from master.core.guards import Confirmed
from master.core.hook_answers import read_answer
from master.core.hypervisors import BUILT_IN
from master.core.plan import Source, plan
from master.publisher import assignment_of
from node_agent.core import events as e
from node_agent.core.agent import Agent
from node_agent.core.reconcile import Found
from protocol.cluster_messages import ClusterModify
from protocol.errors import Refused
from protocol.messages import FileEntry, Manifest, NodeBell, ScopeBell
from protocol.names import ManagedPath, NodeName, ScopeName, is_secret
from protocol.operator_messages import (
    FileAdd,
    FileModify,
    FileRemove,
    Goal,
    GroupAdd,
    GroupRemove,
    NodeAdd,
    NodeModify,
    NodeRemove,
)
from tests.support.fake_disk import FakeDisk
from tests.support.values import CONFIG_DATA, SURROUNDINGS, a_config, a_public_key, digest_of, found_as, found_file

SSCONF = "/var/lib/ganeti/ssconf_"
FLAGS = {
    "-C": "master_candidate",
    "-O": "offline",
    "-D": "drained",
    "--master-capable": "master_capable",
    "--vm-capable": "vm_capable",
}


class StoryNode:
    """One node's agent and disk. While it is `off` nothing reaches it; `deaf` it hears no bells."""

    def __init__(self, name: NodeName) -> None:
        self.name = name
        self.disk = FakeDisk()
        self.memory = e.Memory()
        self.agent: Agent | None = None
        self.is_deaf = False
        self.boots = 0


class Story:
    """The mesh of one scenario. `do` takes one command line and returns what it prints."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._config: ClusterConfig = a_config(pool_size=1)
        self._manifests: dict[ScopeName, Manifest] = {}
        self._before = (self._config, self._manifests)
        self._published: dict[ScopeName, Manifest] = {}
        self._secret_manifests: list[frozenset[ManagedPath]] = []
        self._generation = 0
        self._looks = 0
        self._fleet = Fleet(silent_after_s=12.0)
        self._nodes: dict[NodeName, StoryNode] = {}
        self._names: dict[str, str] = {}
        self._out: list[str] = []
        self._verbs: dict[tuple[str, ...], Callable[[Sequence[str]], None]] = {
            ("edit",): self._edit,
            ("source",): self._source,
            ("node", "add"): self._node_add,
            ("node", "modify"): self._node_modify,
            ("node", "remove"): self._node_remove,
            ("node", "list"): self._node_list,
            ("group", "add"): self._group_add,
            ("group", "remove"): self._group_remove,
            ("file", "add"): self._file_add,
            ("file", "modify"): self._file_modify,
            ("file", "remove"): self._file_remove,
            ("file", "confirm"): self._file_confirm,
            ("show",): self._show,
            ("ssconf",): self._ssconf,
            ("manifest",): self._manifest,
            ("wait",): self._wait,
            ("redist-conf",): self._redist_conf,
            ("hand",): self._hand,
            ("rot",): self._rot,
            ("kill",): self._kill,
            ("start",): self._start,
            ("deafen",): self._deafen,
            ("pass",): self._pass,
            ("pool",): self._pool,
            ("cluster", "modify"): self._cluster_modify,
            ("why",): self._why,
            ("enable",): self._enable,
            ("hook",): self._hook,
            ("explain",): self._explain,
            ("disk",): self._disk,
        }
        self._add_node(self._config.master)
        self._write_config()
        self._publish()
        self._out.clear()

    def do(self, line: str) -> list[str]:
        words = shlex.split(line)
        for length in (2, 1):
            if tuple(words[:length]) in self._verbs:
                try:
                    self._verbs[tuple(words[:length])](words[length:])
                except Refused as refusal:
                    self._out.append(f"refused: {refusal}")
                break
        else:
            raise AssertionError(f"no such command: {line}")
        out, self._out = self._out, []
        return out

    # What the administrator does on the master.

    def _edit(self, words: Sequence[str]) -> None:
        """edit PATH CONTENT [MODE]: change a source on the master."""
        path, content, *mode = words
        self._master_disk.files[ManagedPath(path)] = self._file(content, int(mode[0], 8) if mode else 0o644)
        self._publish()

    def _source(self, words: Sequence[str]) -> None:
        """source PATH vanishes: remove a source from the master's disk."""
        assert words[1:] == ["vanishes"]
        del self._master_disk.files[ManagedPath(words[0])]
        self._publish()

    def _node_add(self, words: Sequence[str]) -> None:
        """node add NAME [GROUP]"""
        request = NodeAdd(name=words[0], group="".join(words[1:]), public_key=a_public_key(words[0]))
        self._change(lambda config, now: operations.add_node(config, request, uuid=f"uuid-{words[0]}", now=now))

    def _node_modify(self, words: Sequence[str]) -> None:
        """node modify NAME [-C yes|no] [-O yes|no] … [--group GROUP] [--auto-promote]"""
        name, *options = words
        settings: dict[str, object] = {"auto_promote": "--auto-promote" in options}
        pairs = [word for word in options if word != "--auto-promote"]
        for option, value in zip(pairs[::2], pairs[1::2], strict=True):
            settings[FLAGS.get(option, "group")] = value == "yes" if option in FLAGS else value
        request = NodeModify(name=name, **settings)  # type: ignore[arg-type]
        self._change(lambda config, now: operations.modify_node(config, request, now=now))

    def _node_remove(self, words: Sequence[str]) -> None:
        self._change(lambda config, now: operations.remove_node(config, NodeRemove(name=words[0]), now=now))

    def _group_add(self, words: Sequence[str]) -> None:
        request = GroupAdd(name=words[0])
        self._change(lambda config, now: operations.add_group(config, request, uuid=f"uuid-{words[0]}", now=now))

    def _group_remove(self, words: Sequence[str]) -> None:
        self._change(lambda config, now: operations.remove_group(config, GroupRemove(name=words[0]), now=now))

    def _file_add(self, words: Sequence[str]) -> None:
        """file add PATH SCOPE [--optional]"""
        request = FileAdd(path=words[0], scope=words[1], optional="--optional" in words)
        self._change(
            lambda config, now: operations.add_file(config, request, surroundings=self._surroundings(config), now=now)
        )

    def _file_modify(self, words: Sequence[str]) -> None:
        """file modify PATH --scope SCOPE [--confirm GUARD] | --allow-empty yes"""
        path, option, value, *confirm = words
        request = (
            FileModify(path=path, scope=value)
            if option == "--scope"
            else FileModify(path=path, allow_empty=value == "yes")
        )
        self._change(lambda config, now: operations.modify_file(config, request, now=now), confirm=confirm[1:])

    def _file_remove(self, words: Sequence[str]) -> None:
        """file remove PATH [--purge]"""
        request = FileRemove(path=words[0], purge="--purge" in words)
        selected = self._surroundings(self._config).matches
        vanished = {path for paths in selected.values() for path in paths if path not in self._master_disk.files}
        self._change(
            lambda config, now: operations.remove_file(
                config, request, selected=selected, vanished=vanished, generation=self._generation, now=now
            )
        )

    def _file_confirm(self, words: Sequence[str]) -> None:
        """file confirm PATH: ship what is held back."""
        paths = frozenset(map(ManagedPath, words))
        self._publish(Confirmed(contents=paths, moves=paths))

    # What can be seen.

    def _node_list(self, words: Sequence[str]) -> None:
        for node in self._config.sorted_nodes():
            info = self._fleet.info(self._config, node, self._manifests, self._now_s)
            state = ("in sync" if info.in_sync else "behind") if info.online else "off"
            self._out.append(f"{node.name} {info.role} {state}: {', '.join(info.scopes)}")

    def _show(self, words: Sequence[str]) -> None:
        """show NODE: what is on its disk, what it kept, and what it says."""
        node = self._nodes[NodeName(words[0])]
        for path, here in sorted(node.disk.files.items()):
            if not ssconf_key(path):
                self._out.append(f"{path} {here.mode:04o} {self._text(here)}")
        differing = [
            key
            for path, here in node.disk.files.items()
            if (key := ssconf_key(path)) and here != self._master_disk.files.get(path)
        ]
        if differing:
            self._out.append(f"ssconf not as on the master: {', '.join(sorted(differing))}")
        for path, digest in node.disk.backups:
            self._out.append(f"backup of {path}: {self._names[digest]}")
        status = self._fleet.status(node.name)
        receipts = [f"{receipt.scope} {receipt.generation}" for receipt in status.receipts] if status else []
        self._out.append(f"has {', '.join(receipts) or 'nothing complete'}")
        for error in status.errors if status else ():
            self._out.append(f"error {error.path or error.scope}: {error.reason}")

    def _ssconf(self, words: Sequence[str]) -> None:
        """ssconf NODE [KEY]: the ssconf texts on its disk."""
        for path, here in sorted(self._nodes[NodeName(words[0])].disk.files.items()):
            key = ssconf_key(path)
            if key and key in (words[1:] or [key]):
                self._out.append(f"ssconf_{key} {self._names[here.digest]}")

    def _manifest(self, words: Sequence[str]) -> None:
        """manifest SCOPE: what is published."""
        manifest = self._manifests[ScopeName(words[0])]
        self._out.append(f"generation {manifest.generation}")
        for entry in manifest.files:
            if not ssconf_key(entry.path):
                self._out.append(f"{entry.path} {entry.mode:04o} {self._entry_text(entry)} since {entry.generation}")
        for item in manifest.withdrawn:
            self._out.append(f"{item.path} withdrawn in {item.generation}{', purged' if item.purge else ''}")

    def _wait(self, words: Sequence[str]) -> None:
        """wait: what is still missing of all that is true now."""
        goal = Goal(
            epoch=self._config.cluster.epoch,
            generations={str(scope): manifest.generation for scope, manifest in self._manifests.items()},
            serials={node.name: node.serial_no for node in self._config.nodes.values() if not node.offline},
        )
        missing = self._fleet.missing(self._config, goal, self._now_s)
        for one in missing:
            self._out.append(" ".join(word for word in (f"{one.node}:", one.scope, one.path, one.reason) if word))
        if not missing:
            self._out.append("every node has it")

    def _redist_conf(self, words: Sequence[str]) -> None:
        """redist-conf: every source and every node's disk is read again."""
        self._publish()
        self._looks += 1
        for node in self._config.nodes.values():
            self._ring(node.name, NodeBell(node=node.name, epoch=1, serial=node.serial_no, look=f"look{self._looks}"))

    # What happens to nodes.

    def _hand(self, words: Sequence[str]) -> None:
        """hand NODE PATH CONTENT: somebody changes a file by hand, which the agent sees; "-" removes it."""
        node, path, content = self._nodes[NodeName(words[0])], ManagedPath(words[1]), words[2]
        if content == "-":
            node.disk.files.pop(path, None)
        else:
            node.disk.files[path] = self._file(content, 0o644)
        self._tell(node, e.FilesTouched(frozenset({path})))

    def _rot(self, words: Sequence[str]) -> None:
        """rot NODE PATH CONTENT: a file changes on the disk and nothing tells of it."""
        self._nodes[NodeName(words[0])].disk.files[ManagedPath(words[1])] = self._file(words[2], 0o644)

    def _kill(self, words: Sequence[str]) -> None:
        node = self._nodes[NodeName(words[0])]
        node.agent = None
        self._fleet.leave(node.name)

    def _start(self, words: Sequence[str]) -> None:
        node = self._nodes[NodeName(words[0])]
        node.boots += 1
        node.agent = Agent(node.name, boot=f"boot{node.boots}", memory=node.memory)
        self._tell(node, e.Tick(self._now_s))
        self._tell(node, e.BusUp())

    def _deafen(self, words: Sequence[str]) -> None:
        """deafen NODE: its subscriptions die and nobody notices."""
        self._nodes[NodeName(words[0])].is_deaf = True

    def _pass(self, words: Sequence[str]) -> None:
        """pass SECONDS: with a beat every two of them."""
        for second in range(1, int(words[0]) + 1):
            self._now_s += 1
            for node in self._nodes.values():
                self._tell(node, e.Tick(self._now_s))
            if second % 2 == 0:
                self._ring_scopes(is_beat=True)

    def _pool(self, words: Sequence[str]) -> None:
        """pool size NUMBER: how many master candidates there should be; nobody is promoted or demoted by it."""
        cluster = replace(self._config.cluster, candidate_pool_size=int(words[1]))
        self._change(lambda config, now: with_cluster(config, cluster, now))

    def _cluster_modify(self, words: Sequence[str]) -> None:
        """cluster modify -C NUMBER: how many master candidates there should be; a larger pool is filled."""
        request = ClusterModify(candidate_pool_size=int(words[1]))
        self._change(lambda config, now: modify_cluster(config, request, hypervisors=BUILT_IN, now=now))

    def _why(self, words: Sequence[str]) -> None:
        """why [NODE]: what is told of the last change; NODE is the one that it was about."""
        before, manifests = self._before
        asked = f"uuid-{words[0]}" if words else ""
        taken = consequences.withdrawn(before, self._config, manifests)
        shown = [item for item in taken if not ssconf_key(item.path)]
        if node := self._config.nodes.get(asked):
            self._out += filter(None, [consequences.own_role(before, self._config, node)])
        self._out += consequences.promotions(before, self._config, asked=asked)
        self._out += consequences.withdrawal_lines(shown, consequences.to_rotate(shown, config_data=CONFIG_DATA))
        self._out += filter(None, [consequences.pool_state(self._config)])

    def _enable(self, words: Sequence[str]) -> None:
        """enable HYPERVISOR...: these and no others."""
        request = ClusterModify(enabled_hypervisors=tuple(words))
        known = SURROUNDINGS.hypervisors
        self._change(lambda config, now: modify_cluster(config, request, hypervisors=known, now=now))

    def _hook(self, words: Sequence[str]) -> None:
        """hook NAME prints [PATH SCOPE]...: a file hook is asked; "hook NAME prints nonsense" is one that is broken."""
        name, _, *said = words
        lines = [json.dumps({"path": path, "scope": scope}) for path, scope in zip(said[::2], said[1::2], strict=False)]
        try:
            files = read_answer("\n".join(lines if len(said) != 1 else said).encode(), self._config)
        except ValueError as error:
            raise Refused(str(error)) from error
        if files != self._config.cluster.hook_files.get(name, ()):
            self._change(lambda config, now: hook_answered(config, name, files, now=now))

    def _explain(self, words: Sequence[str]) -> None:
        """explain PATH NODE"""
        path, node = ManagedPath(words[0]), self._config.node(words[1])
        source, where = _source_of(self._master_disk.here(path)), self._surroundings(self._config)
        published = [entry for manifest in self._manifests.values() for entry in manifest.files if entry.path == path]
        entry = published[0] if published else None
        self._out += explain(self._config, where, path, node, source=source, published=entry).lines

    def _disk(self, words: Sequence[str]) -> None:
        """disk NODE full | free"""
        self._nodes[NodeName(words[0])].disk.full = "No space left on device" if words[1] == "full" else ""

    # How it comes about.

    @property
    def _master_disk(self) -> FakeDisk:
        return self._nodes[self._config.master.name].disk

    def _change(self, make: Callable[[ClusterConfig, float], ClusterConfig], *, confirm: Sequence[str] = ()) -> None:
        """Decide; publish; assign: in the order of the daemon."""
        after = make(self._config, self._now_s)
        check_change(self._config, after, self._surroundings(after))
        listed = [managed_files(config, self._surroundings(config)).files for config in (self._config, after)]
        secrets = {path for manifest in self._secret_manifests for path in manifest}
        found = guards.objections(after, listed[0], listed[1], self._manifests, secrets)
        guards.refuse([one for one in found if one.guard not in confirm])
        before, self._config = self._config, after
        self._before = (before, dict(self._manifests))
        if self._config is before:
            self._out.append("nothing to do")
            return
        for uuid, node in self._config.nodes.items():
            was = before.nodes.get(uuid)
            if was is None:
                self._add_node(node)
            elif role_letter(before, was) != role_letter(self._config, node):
                self._out.append(f"{node.name}: {role_letter(before, was)} -> {role_letter(self._config, node)}")
        self._write_config()
        self._publish(Confirmed(moves=guards.moves_of(listed[0], listed[1])))
        for uuid, node in self._config.nodes.items():
            if before.nodes.get(uuid) != node:
                self._ring(node.name, NodeBell(node=node.name, epoch=1, serial=node.serial_no))

    def _add_node(self, node: Node) -> None:
        self._nodes[node.name] = StoryNode(node.name)
        self._out.append(f"{node.name}: {role_letter(self._config, node)}")

    def _write_config(self) -> None:
        text = to_text(self._config)
        self._names[digest_of(text)] = "the cluster config"
        self._master_disk.files[CONFIG_DATA] = found_file(text, mode=0o640)
        for path, file in managed_files(self._config, SURROUNDINGS).generated.items():
            self._names[file.digest] = repr(file.content.decode())
            self._master_disk.files[path] = found_file(file.content.decode(), mode=file.mode)

    def _publish(self, confirmed: Confirmed = guards.NOTHING) -> None:
        files = managed_files(self._config, self._surroundings(self._config)).files
        sources = {file.path: _source_of(self._master_disk.here(file.path)) for file in files}
        held = guards.hold(
            self._config,
            files,
            sources,
            self._manifests,
            beginnings=self._beginnings(sources),
            confirmed=confirmed,
        )
        publication = plan(self._config, held.files, held.sources, self._manifests, generation=self._generation + 1)
        for problem in publication.problems:
            self._out.append(f"problem: {problem.path} {problem.reason}")
        if not publication.manifests:
            return
        self._generation = publication.generation
        for event in publication.events:
            if event.path != CONFIG_DATA and not ssconf_key(event.path):
                self._out.append(f"generation {event.generation}: {event.scope} {event.path} {event.change}")
        for manifest in publication.manifests:
            self._manifests[manifest.scope] = manifest
            if is_secret(manifest.scope):
                self._secret_manifests.append(frozenset(entry.path for entry in manifest.files))
        for manifest in publication.manifests:
            self._published[manifest.scope] = manifest
            self._ring_scopes(manifest.scope)

    def _beginnings(self, sources: Mapping[ManagedPath, Source]) -> list[ManagedPath]:
        """Return the sources that are much shorter than what is published and begin like it."""
        published = {entry.path: entry for manifest in self._manifests.values() for entry in manifest.files}
        return [
            path
            for path, source in sources.items()
            if path in published
            and source.kind == "ready"
            and guards.looks_truncated(published[path].size_bytes, source.size_bytes)
            and self._names[published[path].digest].startswith(self._names[source.digest][:-1])
        ]

    def _surroundings(self, config: ClusterConfig) -> Surroundings:
        """With what the patterns of the list select on the master's disk."""
        patterns = [file.path for file in config.cluster.ancillary_files if is_glob(file.path)]
        names: dict[str, list[str]] = {directory_of(pattern): [] for pattern in patterns}
        for path in self._master_disk.files:
            names.setdefault(directory_of(path), []).append(path.rpartition("/")[2])
        matches, faults = select(config, patterns, names, {}, self._manifests.values())
        return replace(SURROUNDINGS, matches=matches, pattern_faults=faults)

    def _ring_scopes(self, only: ScopeName | None = None, *, is_beat: bool = False) -> None:
        for scope, manifest in self._published.items():
            if only in (None, scope):
                bell = ScopeBell(scope=scope, epoch=1, generation=manifest.generation, is_beat=is_beat)
                for name in self._nodes:
                    if scope in self._walls(name):
                        self._ring(name, bell)

    def _ring(self, name: NodeName, bell: ScopeBell | NodeBell) -> None:
        node = self._nodes[name]
        if not node.is_deaf:
            self._tell(node, bell)

    def _walls(self, name: NodeName) -> tuple[ScopeName, ...]:
        """Return what the broker lets a node read, as the config is now."""
        members = [member for member in self._config.nodes.values() if member.name == name]
        return self._config.scopes_of(members[0]) if members else ()

    def _tell(self, node: StoryNode, event: e.Event) -> None:
        """Give an event, carry out its effects and what comes of them."""
        events = [event]
        while events and node.agent:
            for effect in node.agent.handle(events.pop(0)):
                events += self._carry_out(node, effect)

    def _carry_out(self, node: StoryNode, effect: e.Effect) -> list[e.Event]:
        match effect:
            case e.Listen():
                node.is_deaf = False
            case e.FetchAssignment():
                members = [member for member in self._config.nodes.values() if member.name == node.name]
                return [e.AssignmentFetched(assignment_of(self._config, members[0]) if members else None)]
            case e.FetchManifest(scope) if scope not in self._walls(node.name):
                return [e.FetchFailed(scope, "permissions violation")]
            case e.FetchManifest(scope):
                return [e.ManifestFetched(scope, self._published.get(scope))]
            case e.Observe(paths):
                return [e.DiskObserved(node.disk.observe(paths))]
            case e.Perform(plan_):
                if not node.disk.full:
                    self._tell_writes(node, [write.entry for write in plan_.writes])
                for removal in plan_.removals:
                    kept = ", keeping a backup" if removal.keep_backup else ", keeping nothing"
                    self._out.append(f"{node.name}: removes {removal.path}{kept}")
                return [e.PlanFinished(plan_, node.disk.perform(plan_))]
            case e.Remember(memory):
                node.memory = memory
            case e.Report(status):
                self._fleet.hear(status, self._now_s)
        return []

    def _tell_writes(self, node: StoryNode, entries: Sequence[FileEntry]) -> None:
        """The ssconf files are many and small: one line for all of them."""
        keys = [key for entry in entries if (key := ssconf_key(entry.path))]
        for entry in entries:
            if not ssconf_key(entry.path):
                self._out.append(f"{node.name}: writes {entry.path} ({self._entry_text(entry)})")
        if keys:
            every = len(keys) == len(managed_files(self._config, SURROUNDINGS).generated)
            self._out.append(f"{node.name}: writes ssconf: {'all of it' if every else ', '.join(sorted(keys))}")

    def _file(self, content: str, mode: int) -> Found:
        self._names[digest_of(content)] = f"'{content}'"
        return found_file(content, mode=mode)

    def _text(self, here: Found) -> str:
        return self._names[here.digest]

    def _entry_text(self, entry: FileEntry) -> str:
        return self._text(found_as(entry))


def ssconf_key(path: str) -> str:
    """Return the key of an ssconf file, empty for any other path."""
    return path.removeprefix(SSCONF) if path.startswith(SSCONF) else ""


def _source_of(here: Found) -> Source:
    if here.kind == "absent":
        return Source("absent")
    return Source("ready", here.digest, here.size_bytes, here.mode, here.owner, here.group)
