"""The answer to `file explain PATH --node N`: which rule puts a file on a node, or what keeps it away."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from master.core import ancillary
from master.core.ancillary import ManagedFile, Surroundings
from master.core.cluster import ClusterConfig, Node, role_letter
from master.core.globs import is_glob, selects
from master.core.never_shipped import why_never_shipped
from master.core.plan import Source
from protocol.messages import FileEntry
from protocol.names import ALL, GROUP_PREFIX, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName

ROLES = {"M": "the master", "C": "a master candidate", "R": "a regular node", "D": "drained", "O": "offline"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`goes` is about the rules alone: the file may still be missing on the master, or the node may be offline."""

    goes: bool
    scope: str
    rule: str
    reason: str
    lines: tuple[str, ...]


def explain(
    config: ClusterConfig,
    surroundings: Surroundings,
    path: ManagedPath,
    node: Node,
    *,
    source: Source | None,
    published: FileEntry | None,
) -> Explanation:
    """Return why a file is, or is not, on a node; `source` is what the master holds, as far as it was looked at."""
    managed = ancillary.managed_files(config, surroundings)
    file = next((file for file in managed.files if file.path == path), None)
    if file is None:
        lines = [f"{path} does not go to {node.name}: no rule names it."]
        lines += _near_misses(config, surroundings, path, source)
        return Explanation(goes=False, scope="", rule="", reason="", lines=tuple(lines))
    goes = file.scope in config.scopes_of(node)
    lines = [
        f"{path} {'goes' if goes else 'does not go'} to {node.name}.",
        f"It is for {file.scope}, because {file.reason}.",
        f"{node.name} {membership(config, node, file.scope)}.",
        *_on_the_master(file, source, published),
        *(f"Also: {problem.reason}." for problem in managed.problems if problem.path == path),
    ]
    if goes and node.offline:
        lines.append(f"{node.name} is offline: it gets the file when it is back.")
    return Explanation(goes=goes, scope=file.scope, rule=file.rule, reason=file.reason, lines=tuple(lines))


def membership(config: ClusterConfig, node: Node, scope: ScopeName) -> str:
    """Return, as the end of a sentence about a node, why it is in a scope or not."""
    group = config.nodegroups[node.group].name
    match scope:
        case _ if scope == ALL:
            return "is in it, as every node is"
        case _ if scope == MASTER_CANDIDATES:
            is_or_not = "in" if node.master_candidate else "not in"
            return f"is {is_or_not} it: it is {ROLES[role_letter(config, node)]}"
        case _ if scope == VM_CAPABLE:
            return "is in it: it is vm-capable" if node.vm_capable else "is not in it: it is not vm-capable"
    is_or_not = "in" if scope == GROUP_PREFIX + group else "not in"
    return f"is {is_or_not} it: its node group is {group}"


def _on_the_master(file: ManagedFile, source: Source | None, published: FileEntry | None) -> Iterator[str]:
    if published:
        yield f"The nodes are to have generation {published.generation} of it."
    if source is None:
        return
    if source.kind == "absent":
        nothing = "what is published stays" if published else "nothing is shipped yet"
        yield f"It does not exist on the master{', and need not' if file.optional else ''}: {nothing}."
    elif source.reason:
        yield f"The master's own {source.reason}."


def _near_misses(
    config: ClusterConfig, surroundings: Surroundings, path: ManagedPath, source: Source | None
) -> Iterator[str]:
    """Yield what would name the file if one thing were different."""
    never = why_never_shipped(path)
    if never:
        yield f"It is never shipped, whoever names it: {never}."
    for listed in config.cluster.ancillary_files:
        if is_glob(listed.path) and selects(listed.path, path):
            state = f"it {source.reason}" if source and source.reason else "it is not there on the master"
            yield (
                f"{listed.path} on the list selects it, for {listed.scope}, but {state}."
                if not never
                else (f"{listed.path} on the list would select it.")
            )
    everything = replace(config.cluster, enabled_hypervisors=tuple(surroundings.hypervisors))
    for hypervisor in everything.enabled_hypervisors:
        if hypervisor not in config.cluster.enabled_hypervisors:
            alone = replace(config, cluster=replace(config.cluster, enabled_hypervisors=(hypervisor,)))
            if ancillary.builtin_file(alone, path, surroundings):
                yield f"Hypervisor {hypervisor} would have it shipped to {VM_CAPABLE}, but it is not enabled."
    for flag in ("modify_etc_hosts", "use_external_mip_script"):
        if not getattr(config.cluster, flag):
            flagged = replace(config, cluster=replace(config.cluster, **{flag: True}))  # type: ignore[arg-type]
            if ancillary.builtin_file(flagged, path, surroundings):
                yield f"It would be shipped to {ALL} if {flag} were on."
