"""Which files are managed, in which scope, and why: the one answer behind every manifest and `file explain`.

The design text, Redistribute Config: the files of the cluster itself, what every enabled hypervisor asks for, the
administrator's list, and the hooks that calculate one. A file is in one scope; who claims it first in that order has
it, and a pattern of the list takes what nobody names.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from master.core import ssconf
from master.core.cluster import AncillaryFile, ClusterConfig
from master.core.globs import is_glob
from master.core.hypervisors import Hypervisor
from master.core.never_shipped import why_never_shipped
from master.core.plan import Source
from protocol.errors import Refused
from protocol.messages import REASON_CHARS_MAX, FileError, Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, Digest, ManagedPath, ScopeName

ETC_HOSTS: Final = ManagedPath("/etc/hosts")
MASTER_IP_SCRIPT: Final = ManagedPath("/etc/ganeti/scripts/master-ip-setup")

CLUSTER_FILES: Final[Mapping[str, tuple[ScopeName, str]]] = {
    "cluster-domain-secret": (ALL, "it signs what clusters tell each other"),
    "hmac.key": (ALL, "it authenticates what nodes ask of the configuration daemon"),
    "known_hosts": (ALL, "nodes know each other by it"),
    "rapi.pem": (MASTER_CANDIDATES, "it is the remote API's certificate and key, which the next master needs"),
    "rapi_users": (MASTER_CANDIDATES, "it holds the remote API's users and passwords, which the next master needs"),
    "rapi/users": (MASTER_CANDIDATES, "it holds the remote API's users and passwords, which the next master needs"),
}
"""What lies beside config.data, by name. The design text has the rapi files on master candidates; Ganeti ships them to
all nodes. It has `rapi_users`, Ganeti since 2.4 `rapi/users`."""


Rule = Literal["cluster", "hypervisor", "list", "hook", "pattern"]
"""Who asks for a file, the first of them first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedFile(AncillaryFile):
    """A file that is kept equal on every node of its scope, and why that is so."""

    rule: Rule
    reason: str
    """The end of a sentence that begins with "because"."""

    @property
    def is_builtin(self) -> bool:
        """The cluster or a hypervisor needs it: no operator has put it on a list."""
        return self.rule in ("cluster", "hypervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What decides beside the cluster config."""

    config_data: ManagedPath
    hypervisors: Mapping[str, Hypervisor]
    """Every hypervisor there is, by name: Ganeti's own and those plugged in."""
    release: str
    """Of gnt-mesh; it is the ssconf value release_version."""
    matches: Mapping[ManagedPath, frozenset[ManagedPath]] = field(default_factory=dict)
    """By pattern of the list, what it selects."""
    pattern_faults: Mapping[ManagedPath, str] = field(default_factory=dict)
    held: frozenset[ManagedPath] = frozenset()
    """What stays where it is, because who asked for it is enabled and not there to be asked."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a file has to hold whose content follows from the cluster config."""

    content: bytes
    digest: Digest
    mode: int

    @classmethod
    def of(cls, content: bytes, mode: int) -> "Generated":
        return cls(content, Digest(hashlib.sha256(content).hexdigest()), mode)

    def is_in(self, source: Source) -> bool:
        """True if the source holds just this."""
        return (source.digest, source.mode) == (self.digest, self.mode)


@dataclass(frozen=True, slots=True)
class Ancillary:
    """Every managed file in path order, and what is wrong with those who ask for files."""

    files: tuple[ManagedFile, ...]
    problems: tuple[FileError, ...]
    generated: Mapping[ManagedPath, Generated]
    """Those files whose content follows from the cluster config: the ssconf files."""


def managed_files(config: ClusterConfig, surroundings: Surroundings) -> Ancillary:
    """Return what is to be kept, where; a second claim for another scope is a problem, and changes nothing."""
    found: dict[ManagedPath, ManagedFile] = {}
    generated, faults = _ssconf(config, surroundings)
    problems = [*faults, *_hypervisor_problems(config, surroundings), *_pattern_problems(config, surroundings)]
    for claim in _claims(config, surroundings):
        never = why_never_shipped(claim.path)
        if never:
            if claim.rule != "pattern":  # a pattern means what may travel
                problems.append(_problem(claim.path, claim.scope, f"is never shipped, whoever names it: {never}"))
            continue
        first = found.setdefault(claim.path, claim)
        if first.scope != claim.scope:
            if claim.path in surroundings.held and claim.scope == VM_CAPABLE:
                continue
            if claim.rule != "pattern" or first.rule == "pattern":  # one that names the file beats one that selects it
                problems.append(_problem(claim.path, claim.scope, _conflict(first, claim)))
        elif first is not claim and claim.rule == "list":
            found[claim.path] = replace(
                first, optional=claim.optional, allow_empty=claim.allow_empty, secret=claim.secret
            )
    return Ancillary(tuple(sorted(found.values(), key=lambda file: file.path)), tuple(problems), generated)


def check_change(before: ClusterConfig, after: ClusterConfig, surroundings: Surroundings) -> None:
    """Refuse a change that asks for what cannot be: an unknown hypervisor, one file in two scopes, too long an ssconf.

    What was wrong before does not stand in the way of another change.
    """
    if before is after:
        return
    old = managed_files(before, surroundings).problems
    for problem in managed_files(after, surroundings).problems:
        if problem not in old:
            raise Refused(f"{problem.path} {problem.reason}".lstrip())


def held_files(
    config: ClusterConfig, known: Collection[str], manifests: Mapping[ScopeName, Manifest]
) -> frozenset[ManagedPath]:
    """Return the published files that an enabled hypervisor may have asked for which is unknown now.

    A plug-in that a failed upgrade has broken must not take its files from the nodes.
    """
    if VM_CAPABLE not in manifests or set(config.cluster.enabled_hypervisors) <= set(known):
        return frozenset()
    withdrawn = {file.path: file.generation for file in config.cluster.withdrawn_files}
    return frozenset(
        entry.path for entry in manifests[VM_CAPABLE].files if entry.generation > withdrawn.get(entry.path, -1)
    )


def builtin_file(config: ClusterConfig, path: ManagedPath, surroundings: Surroundings) -> ManagedFile | None:
    """Return the file at a path if it is managed without being on a list."""
    claims = _claims(config, surroundings)
    return next((claim for claim in claims if claim.path == path and claim.is_builtin), None)


def _claims(config: ClusterConfig, surroundings: Surroundings) -> Iterator[ManagedFile]:
    yield from _cluster_files(config, surroundings.config_data)
    yield from _ssconf_files(config, surroundings)
    for hypervisor in _enabled(config, surroundings):
        yield from _hypervisor_files(config, hypervisor)
    yield from _listed_files(config)
    yield from _hook_files(config)
    yield from _selected_files(config, surroundings)
    for path in sorted(surroundings.held):
        yield _optional(path, VM_CAPABLE, "hypervisor", "an enabled hypervisor that is unknown now may need it")


def _listed_files(config: ClusterConfig) -> Iterator[ManagedFile]:
    for file in config.cluster.ancillary_files:
        if not is_glob(file.path):
            yield _claim(file, file.path, "list", "it is on the administrator's list")


def _hook_files(config: ClusterConfig) -> Iterator[ManagedFile]:
    if config.cluster.file_hooks:
        for name, files in sorted(config.cluster.hook_files.items()):
            for file in files:
                yield _claim(file, file.path, "hook", f"the file hook {name} names it")


def _selected_files(config: ClusterConfig, surroundings: Surroundings) -> Iterator[ManagedFile]:
    for file in config.cluster.ancillary_files:
        for path in sorted(surroundings.matches.get(file.path, ())):
            yield _claim(replace(file, optional=True), path, "pattern", f"{file.path} on the list selects it")


def _pattern_problems(config: ClusterConfig, surroundings: Surroundings) -> Iterator[FileError]:
    for file in config.cluster.ancillary_files:
        if file.path in surroundings.pattern_faults:
            yield _problem(file.path, file.scope, surroundings.pattern_faults[file.path])
        elif is_glob(file.path) and not file.optional and not surroundings.matches.get(file.path):
            yield _problem(file.path, file.scope, "selects no file on the master, so there is nothing to ship yet")


def _claim(file: AncillaryFile, path: ManagedPath, rule: Rule, reason: str) -> ManagedFile:
    return ManagedFile(
        path=path,
        scope=file.scope,
        optional=file.optional,
        allow_empty=file.allow_empty,
        secret=file.secret,
        rule=rule,
        reason=reason,
    )


def _cluster_files(config: ClusterConfig, config_data: ManagedPath) -> Iterator[ManagedFile]:
    because = "it is the cluster config, from which a candidate becomes master"
    yield ManagedFile(path=config_data, scope=MASTER_CANDIDATES, rule="cluster", reason=because)
    beside = (config.cluster.ganeti_config_data or config_data).rpartition("/")[0]
    for name, (scope, reason) in CLUSTER_FILES.items():
        yield _optional(ManagedPath(f"{beside}/{name}"), scope, "cluster", reason)
    if config.cluster.modify_etc_hosts:
        yield _optional(ETC_HOSTS, ALL, "cluster", "modify_etc_hosts is on")
    if config.cluster.use_external_mip_script:
        yield _optional(MASTER_IP_SCRIPT, ALL, "cluster", "use_external_mip_script is on")


def _ssconf_files(config: ClusterConfig, surroundings: Surroundings) -> Iterator[ManagedFile]:
    if config.cluster.ganeti_config_data:
        return  # the Ganeti that is followed writes its own
    for key in ssconf.texts(config, release=surroundings.release):
        yield ManagedFile(
            path=_ssconf_path(surroundings, key),
            scope=ALL,
            allow_empty=True,
            rule="cluster",
            reason=f"it tells every node the cluster's {key}",
        )


def _ssconf(config: ClusterConfig, surroundings: Surroundings) -> tuple[dict[ManagedPath, Generated], list[FileError]]:
    """Return what the ssconf files have to hold, and which of them must stay as they are."""
    if config.cluster.ganeti_config_data:
        return {}, []
    faults = ssconf.faults(config, release=surroundings.release)
    texts = ssconf.texts(config, release=surroundings.release)
    contents = {_ssconf_path(surroundings, key): text.encode() for key, text in texts.items() if key not in faults}
    generated = {path: Generated.of(content, ssconf.MODE) for path, content in contents.items()}
    return generated, [_problem(_ssconf_path(surroundings, key), ALL, fault) for key, fault in faults.items()]


def _ssconf_path(surroundings: Surroundings, key: str) -> ManagedPath:
    return ManagedPath(f"{surroundings.config_data.rpartition('/')[0]}/{ssconf.PREFIX}{key}")


def _hypervisor_files(config: ClusterConfig, hypervisor: Hypervisor) -> Iterator[ManagedFile]:
    try:
        wanted = dict(hypervisor.files_wanted(config.cluster.hvparams.get(hypervisor.name, {})))
    except ValueError:
        wanted = dict(hypervisor.files_wanted({}))  # `_hypervisor_problems` says what is wrong
    for path, reason in wanted.items():
        yield _optional(path, VM_CAPABLE, "hypervisor", reason)


def _hypervisor_problems(config: ClusterConfig, surroundings: Surroundings) -> Iterator[FileError]:
    for name in config.cluster.enabled_hypervisors:
        if name not in surroundings.hypervisors:
            there_are = ", ".join(sorted(surroundings.hypervisors))
            yield _problem("", VM_CAPABLE, f"hypervisor {name} is unknown; there are {there_are}")
    for hypervisor in _enabled(config, surroundings):
        try:
            dict(hypervisor.files_wanted(config.cluster.hvparams.get(hypervisor.name, {})))
        except ValueError as error:
            yield _problem("", VM_CAPABLE, str(error))


def _enabled(config: ClusterConfig, surroundings: Surroundings) -> list[Hypervisor]:
    known = surroundings.hypervisors
    return [known[name] for name in config.cluster.enabled_hypervisors if name in known]


def _optional(path: ManagedPath, scope: ScopeName, rule: Rule, reason: str) -> ManagedFile:
    return ManagedFile(path=path, scope=scope, optional=True, rule=rule, reason=reason)


def _problem(path: str, scope: ScopeName, reason: str) -> FileError:
    return FileError(path=path, scope=scope, reason=reason[:REASON_CHARS_MAX])


def _conflict(first: ManagedFile, claim: ManagedFile) -> str:
    return (
        f"cannot be in two scopes: it goes to {first.scope}, because {first.reason}, "
        f"and to {claim.scope}, because {claim.reason}"
    )
