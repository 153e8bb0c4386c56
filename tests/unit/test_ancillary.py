"""master/core/ancillary.py: which file goes to which node, and why; all small clusters against a ten-line answer."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest

from master.core import ssconf
from master.core.ancillary import Surroundings, check_change, held_files, managed_files
from master.core.cluster import AncillaryFile, ClusterConfig, Node, WithdrawnFile
from master.core.hypervisors import BUILT_IN, HvValue, Hypervisor
from protocol.errors import Refused
from protocol.messages import REASON_CHARS_MAX
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName
from tests.support.values import CONFIG_DATA, PATH, SURROUNDINGS, a_config, a_file, a_manifest, a_node, an_entry

DATA = "/var/lib/ganeti"


def with_hypervisors(
    config: ClusterConfig, *names: str, hvparams: dict[str, dict[str, HvValue]] | None = None
) -> ClusterConfig:
    cluster = replace(config.cluster, enabled_hypervisors=names or ("fake",), hvparams=hvparams or {})
    return replace(config, cluster=cluster)


def unlisted(config: ClusterConfig) -> dict[str, ScopeName]:
    """Return path and scope of what is managed, ssconf left out."""
    return {path: scope for path, scope in scopes(config).items() if "/ssconf_" not in path}


def scopes(config: ClusterConfig, surroundings: Surroundings = SURROUNDINGS) -> dict[str, ScopeName]:
    return {str(file.path): file.scope for file in managed_files(config, surroundings).files}


def reasons(config: ClusterConfig, surroundings: Surroundings = SURROUNDINGS) -> list[str]:
    return [f"{problem.path} {problem.reason}".lstrip() for problem in managed_files(config, surroundings).problems]


def test_the_clusters_own_files_are_in_the_scopes_of_the_design_text() -> None:
    assert unlisted(with_hypervisors(a_config())) == {
        CONFIG_DATA: MASTER_CANDIDATES,
        f"{DATA}/rapi.pem": MASTER_CANDIDATES,
        f"{DATA}/rapi_users": MASTER_CANDIDATES,
        f"{DATA}/rapi/users": MASTER_CANDIDATES,
        f"{DATA}/cluster-domain-secret": ALL,
        f"{DATA}/hmac.key": ALL,
        f"{DATA}/known_hosts": ALL,
    }


def test_only_what_the_master_makes_itself_has_to_exist() -> None:
    ancillary = managed_files(with_hypervisors(a_config(), *BUILT_IN), SURROUNDINGS)
    files = ancillary.files

    assert {file.path for file in files if not file.optional} == {CONFIG_DATA, *ancillary.generated}
    assert all(file.is_builtin for file in files)


def test_files_come_in_path_order_and_once() -> None:
    config = with_hypervisors(a_config(files=[a_file("/var/lib/z"), a_file()]), "xen-hvm", "kvm", "xen-pvm")

    paths = [file.path for file in managed_files(config, SURROUNDINGS).files]

    assert paths == sorted(set(paths))
    assert {PATH, "/var/lib/z", "/etc/xen/xl.conf"} <= set(paths)


def test_the_clusters_files_lie_beside_config_data() -> None:
    elsewhere = replace(SURROUNDINGS, config_data=ManagedPath("/srv/cluster/config.data"))

    assert f"{DATA}/rapi.pem" not in scopes(a_config(), elsewhere)
    assert scopes(a_config(), elsewhere)["/srv/cluster/rapi.pem"] == MASTER_CANDIDATES


@pytest.mark.parametrize(
    ("flag", "path"),
    [("modify_etc_hosts", "/etc/hosts"), ("use_external_mip_script", "/etc/ganeti/scripts/master-ip-setup")],
)
def test_files_that_a_flag_of_the_cluster_asks_for(flag: str, path: str) -> None:
    config = a_config()
    with_flag = replace(config, cluster=replace(config.cluster, **{flag: True}))

    assert path not in scopes(config)
    assert scopes(with_flag)[path] == ALL


def test_a_hypervisor_that_is_not_enabled_is_not_asked() -> None:
    assert "/etc/xen/xl.conf" not in scopes(with_hypervisors(a_config(), "kvm"))
    assert scopes(with_hypervisors(a_config(), "kvm", "xen-pvm"))["/etc/xen/xl.conf"] == VM_CAPABLE


def test_a_hypervisor_that_was_plugged_in_is_asked_like_ours() -> None:
    bhyve = Hypervisor(name="bhyve", files=(ManagedPath("/etc/bhyve.conf"),), file_parameters=("loader",))
    plugged = replace(SURROUNDINGS, hypervisors={**BUILT_IN, "bhyve": bhyve})
    config = with_hypervisors(a_config(), "bhyve", hvparams={"bhyve": {"loader": "/srv/loader"}})

    assert {path: scope for path, scope in scopes(config, plugged).items() if scope == VM_CAPABLE} == {
        "/etc/bhyve.conf": VM_CAPABLE,
        "/srv/loader": VM_CAPABLE,
    }


def test_an_unknown_hypervisor_is_refused_and_named() -> None:
    with pytest.raises(Refused, match="hypervisor qemu is unknown; there are chroot, fake, kvm, lxc, xen-hvm, xen-pvm"):
        check_change(a_config(), with_hypervisors(a_config(), "kvm", "qemu"), SURROUNDINGS)


def test_a_parameter_that_names_no_path_is_refused_and_the_other_files_stay() -> None:
    broken = with_hypervisors(a_config(), "kvm", hvparams={"kvm": {"vnc_password_file": "secret"}})

    with pytest.raises(Refused, match="vnc_password_file of hypervisor kvm: path 'secret' is not absolute"):
        check_change(a_config(), broken, SURROUNDINGS)
    assert scopes(broken) == scopes(with_hypervisors(a_config(), "kvm"))


def test_a_file_in_two_scopes_is_refused_with_both_reasons() -> None:
    listed = a_config(files=[a_file("/etc/xen/xl.conf", ALL)])

    with pytest.raises(Refused) as refusal:
        check_change(listed, with_hypervisors(listed, "xen-pvm"), SURROUNDINGS)

    assert str(refusal.value) == (
        "/etc/xen/xl.conf cannot be in two scopes: it goes to vm-capable, because the enabled hypervisor xen-pvm "
        "needs it, and to all, because it is on the administrator's list"
    )


def test_what_was_wrong_before_does_not_stand_in_the_way() -> None:
    """A config.data that came from elsewhere must be possible to put right, one change after the other."""
    wrong = with_hypervisors(a_config(files=[a_file("/etc/xen/xl.conf", ALL)]), "xen-pvm", "qemu")

    check_change(wrong, replace(wrong, serial_no=2), SURROUNDINGS)
    assert len(reasons(wrong)) == 2
    assert scopes(wrong)["/etc/xen/xl.conf"] == VM_CAPABLE


def test_a_listed_file_that_a_hypervisor_wants_too_keeps_the_lists_settings() -> None:
    config = with_hypervisors(a_config(files=[a_file("/etc/xen/xl.conf", VM_CAPABLE, allow_empty=True)]), "xen-pvm")

    (file,) = [file for file in managed_files(config, SURROUNDINGS).files if file.path == "/etc/xen/xl.conf"]

    assert (file.scope, file.optional, file.allow_empty, file.is_builtin) == (VM_CAPABLE, False, True, True)
    assert reasons(config) == []


def test_a_problem_is_never_longer_than_what_a_status_takes() -> None:
    long = "/" + "x" * 250 + "/" + "y" * 250
    config = with_hypervisors(
        a_config(files=[a_file(long)]), "kvm", hvparams={"kvm": {"vnc_password_file": long, "x": "y"}}
    )

    assert all(len(reason) <= REASON_CHARS_MAX + len(long) + 1 for reason in reasons(config))
    assert len(reasons(config)) == 1


# ---- every small cluster


ROLES = ("C", "R", "D", "O")


def small_clusters() -> Iterable[ClusterConfig]:
    """Every cluster of a master and two nodes: their roles, vm-capability and groups, and every set of hypervisors."""
    kinds = [
        (role, vm_capable, group) for role in ROLES for vm_capable in (True, False) for group in ("default", "rack")
    ]
    files = [
        a_file("/etc/everywhere", ALL),
        a_file("/etc/candidates", MASTER_CANDIDATES),
        a_file("/etc/machines", VM_CAPABLE),
        a_file("/etc/rack", ScopeName("group-rack")),
    ]
    enabled = [names for size in (1, 2) for names in itertools.combinations(sorted(BUILT_IN), size)]
    for index, (first, second) in enumerate(itertools.product(kinds, repeat=2)):
        nodes = [
            a_node(name, role, vm_capable=vm_capable, group=group)
            for name, (role, vm_capable, group) in (("node2", first), ("node3", second))
        ]
        config = a_config(*nodes, groups=("default", "rack"), files=files)
        for names in enabled if index % 16 == 0 else enabled[index % len(enabled) :][:1]:
            yield with_hypervisors(config, *names, hvparams={"kvm": {"vnc_password_file": "/etc/own"}})


def expected_on(config: ClusterConfig, node: Node) -> set[str]:
    """The ten-line answer: what the design text and table a.3 say, without looking at how it is worked out."""
    xen = {"/etc/xen/scripts/vif-bridge", "/etc/xen/xend-config.sxp", "/etc/xen/xl.conf"}
    vnc = {"/etc/ganeti/vnc-cluster-password"}
    kvm = {"/etc/ganeti/kvm-vif-bridge", f"{DATA}/spice.pem", f"{DATA}/spice-ca.pem", "/etc/own"} | vnc
    wanted = {"kvm": kvm, "xen-pvm": xen, "xen-hvm": xen | vnc}
    files = {f"{DATA}/ssconf_{key}" for key in ssconf.texts(config, release="")}
    files |= {"/etc/everywhere", f"{DATA}/known_hosts", f"{DATA}/hmac.key", f"{DATA}/cluster-domain-secret"}
    if node.master_candidate:
        files |= {
            "/etc/candidates",
            CONFIG_DATA,
            *(f"{DATA}/{name}" for name in ("rapi.pem", "rapi_users", "rapi/users")),
        }
    if node.vm_capable:
        files |= {"/etc/machines"}.union(*(wanted.get(name, set()) for name in config.cluster.enabled_hypervisors))
    return files | ({"/etc/rack"} if node.group == "uuid-group-rack" else set())


def test_which_file_goes_to_which_node_in_every_small_cluster() -> None:
    count = 0
    for config in small_clusters():
        files = managed_files(config, SURROUNDINGS).files
        for node in config.nodes.values():
            here = {str(file.path) for file in files if file.scope in config.scopes_of(node)}
            assert here == expected_on(config, node), (node, config.cluster.enabled_hypervisors)
            count += 1
    assert count > 1000


# ---- ssconf


def test_every_ssconf_file_goes_to_all_nodes() -> None:
    generated = managed_files(a_config(), SURROUNDINGS).generated

    assert dict.fromkeys(generated, ALL) == {
        path: scope for path, scope in scopes(a_config()).items() if "/ssconf_" in path
    }
    assert generated[ManagedPath(f"{DATA}/ssconf_master_node")].content == b"node1\n"
    assert len(generated) == 17


def test_ssconf_may_become_empty_and_has_to_exist() -> None:
    """The last offline node coming back empties a list, which is no accident."""
    files = [file for file in managed_files(a_config(), SURROUNDINGS).files if "/ssconf_" in file.path]

    assert all(file.allow_empty and not file.optional for file in files)


def test_a_change_that_does_not_fit_into_ssconf_is_refused_and_the_key_named() -> None:
    long = with_hypervisors(a_config(), "kvm", hvparams={"kvm": {"x": "y" * 200_000}})

    with pytest.raises(Refused, match=r"/var/lib/ganeti/ssconf_hvparams_kvm would have 200003 bytes, limit 131072"):
        check_change(a_config(), long, SURROUNDINGS)
    assert f"{DATA}/ssconf_hvparams_kvm" not in managed_files(long, SURROUNDINGS).generated
    assert scopes(long)[f"{DATA}/ssconf_hvparams_kvm"] == ALL, "what the nodes have stays"


# ---- the list's patterns, and hooks


PATTERN = ManagedPath("/etc/site/*")


def selecting(*names: str, pattern: ManagedPath = PATTERN) -> Surroundings:
    return replace(SURROUNDINGS, matches={pattern: frozenset(ManagedPath(f"/etc/site/{name}") for name in names)})


def with_hooks(config: ClusterConfig, **answers: list[AncillaryFile]) -> ClusterConfig:
    files = {name: tuple(files) for name, files in answers.items()}
    return replace(config, cluster=replace(config.cluster, hook_files=files))


def test_what_a_pattern_selects_is_managed_in_its_scope() -> None:
    config = a_config(files=[a_file(PATTERN, VM_CAPABLE, allow_empty=True)])

    found = {file.path: file for file in managed_files(config, selecting("a", "b")).files if file.rule == "pattern"}

    assert set(found) == {"/etc/site/a", "/etc/site/b"}
    assert all((file.scope, file.optional, file.allow_empty) == (VM_CAPABLE, True, True) for file in found.values())
    assert found[ManagedPath("/etc/site/a")].reason == "/etc/site/* on the list selects it"
    assert PATTERN not in scopes(config, selecting("a"))


def test_whoever_names_a_file_has_it_before_a_pattern() -> None:
    listed = [a_file("/etc/site/a", MASTER_CANDIDATES), a_file(PATTERN)]
    config = with_hooks(a_config(files=listed), hook=[a_file("/etc/site/b", VM_CAPABLE)])

    found = scopes(config, selecting("a", "b", "c"))

    assert [found[f"/etc/site/{name}"] for name in "abc"] == [MASTER_CANDIDATES, VM_CAPABLE, ALL]
    assert reasons(config, selecting("a", "b", "c")) == []


def test_two_patterns_for_two_scopes_are_a_problem_where_they_meet() -> None:
    other = ManagedPath("/etc/site/a*")
    before, after = a_config(files=[a_file(PATTERN)]), a_config(files=[a_file(PATTERN), a_file(other, VM_CAPABLE)])
    both = replace(SURROUNDINGS, matches={**selecting("a", "b").matches, **selecting("a", pattern=other).matches})

    with pytest.raises(Refused, match=r"/etc/site/a cannot be in two scopes.*/etc/site/a\* on the list selects it"):
        check_change(before, after, both)


@pytest.mark.parametrize("optional", [True, False])
def test_a_pattern_that_selects_nothing_is_a_problem_unless_optional(optional: bool) -> None:
    config = a_config(files=[a_file(PATTERN, optional=optional)])

    assert reasons(config) == (
        [] if optional else [f"{PATTERN} selects no file on the master, so there is nothing to ship yet"]
    )


def test_what_a_hook_names_is_managed_unless_hooks_are_off() -> None:
    config = with_hooks(a_config(), site=[a_file("/etc/site/a", VM_CAPABLE, optional=True)])

    (file,) = [file for file in managed_files(config, SURROUNDINGS).files if file.rule == "hook"]
    assert (file.path, file.scope, file.optional) == ("/etc/site/a", VM_CAPABLE, True)
    assert file.reason == "the file hook site names it"
    off = replace(config, cluster=replace(config.cluster, file_hooks=False))
    assert "/etc/site/a" not in scopes(off)


def test_a_hook_cannot_take_a_file_to_another_scope() -> None:
    config = a_config(files=[a_file("/etc/site/a")])

    for path, owner in (("/etc/site/a", "list"), (CONFIG_DATA, "candidate"), (f"{DATA}/ssconf_node_list", "node_list")):
        after = with_hooks(config, site=[a_file(path, VM_CAPABLE)])
        with pytest.raises(Refused, match=f"{path} cannot be in two scopes.*{owner}.*the file hook site names it"):
            check_change(config, after, SURROUNDINGS)
    check_change(config, with_hooks(config, site=[a_file("/etc/site/a")]), SURROUNDINGS)


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/gnt-mesh/agent.nk"])
def test_what_never_travels_is_refused_to_everybody_but_a_pattern(path: str) -> None:
    config, listed = a_config(), a_config(files=[a_file(path)])
    hooked = with_hooks(config, site=[a_file(path)])
    named = with_hypervisors(config, "kvm", hvparams={"kvm": {"vnc_password_file": path}})

    for after in (listed, hooked, named):
        with pytest.raises(Refused, match=f"{path} is never shipped, whoever names it"):
            check_change(config, after, SURROUNDINGS)
        assert path not in scopes(after)
    by_pattern = a_config(files=[a_file("/etc/*")])
    selected = replace(SURROUNDINGS, matches={ManagedPath("/etc/*"): frozenset({ManagedPath(path)})})
    assert path not in scopes(by_pattern, selected)
    check_change(config, by_pattern, selected)


# ---- a hypervisor that is enabled and unknown


def test_a_plug_in_that_is_gone_takes_nothing_from_the_nodes() -> None:
    config = with_hypervisors(a_config(), "kvm", "bhyve")
    published = {VM_CAPABLE: a_manifest(an_entry("/etc/bhyve.conf"), scope=VM_CAPABLE)}

    held = held_files(config, SURROUNDINGS.hypervisors, published)

    assert held == {"/etc/bhyve.conf"}
    assert scopes(config, replace(SURROUNDINGS, held=held))["/etc/bhyve.conf"] == VM_CAPABLE
    assert reasons(config, replace(SURROUNDINGS, held=held)) == [
        "hypervisor bhyve is unknown; there are chroot, fake, kvm, lxc, xen-hvm, xen-pvm"
    ]


def test_what_is_held_gives_way_to_an_operator() -> None:
    published = {VM_CAPABLE: a_manifest(an_entry("/etc/x", generation=3), scope=VM_CAPABLE)}
    moved = with_hypervisors(a_config(files=[a_file("/etc/x", ALL)]), "bhyve")
    removed = with_hypervisors(
        a_config(withdrawn=[WithdrawnFile(path=ManagedPath("/etc/x"), scope=VM_CAPABLE, generation=3)]), "bhyve"
    )
    held = replace(SURROUNDINGS, held=held_files(moved, SURROUNDINGS.hypervisors, published))

    assert (scopes(moved, held)["/etc/x"], len(reasons(moved, held))) == (ALL, 1)
    assert held_files(removed, SURROUNDINGS.hypervisors, published) == frozenset()
    assert held_files(with_hypervisors(a_config(), "kvm"), SURROUNDINGS.hypervisors, published) == frozenset()
