"""master/core/cluster.py: what always holds of a cluster config, and its text."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from master.core.cluster import (
    CONFIG_VERSION,
    ClusterConfig,
    WithdrawnFile,
    from_text,
    natural_key,
    new_cluster,
    next_serial,
    role_letter,
    to_text,
    with_nodes,
)
from protocol.errors import Refused
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, NodeName, ScopeName
from tests.support.values import PATH, a_config, a_file, a_node, a_public_key

RICH_BARE = a_config(
    a_node("node2", "C"),
    a_node("node10", "O", group="rack-2"),
    a_node("node3", "N", vm_capable=False, serial_no=7),
    groups=("default", "rack-2"),
    files=[a_file("/etc/ä b", ScopeName("group-rack-2"), optional=True), a_file()],
    withdrawn=[WithdrawnFile(path=PATH, scope=MASTER_CANDIDATES, purge=True)],
)
RICH = replace(
    RICH_BARE,
    cluster=replace(
        RICH_BARE.cluster,
        enabled_hypervisors=("xen-hvm", "kvm"),
        hvparams={"kvm": {"acpi": True, "kernel_path": "", "migration_port": 8102, "vnc_password_file": "/etc/vnc"}},
    ),
)


def test_a_config_survives_its_text() -> None:
    assert from_text(to_text(RICH)) == RICH


def test_a_text_from_before_a_key_was_there_reads_as_if_its_default_stood_there() -> None:
    raw = json.loads(to_text(RICH_BARE))
    for key in ("enabled_hypervisors", "hvparams", "modify_etc_hosts", "use_external_mip_script"):
        del raw["cluster"][key]

    assert from_text(json.dumps(raw)) == RICH_BARE
    assert RICH_BARE.cluster.enabled_hypervisors == ("kvm",)


def test_the_text_is_for_people_and_for_diff() -> None:
    text = to_text(RICH)

    assert text.endswith("}\n")
    assert '\n  "cluster": {\n    "cluster_name": "test",\n' in text
    assert "/etc/ä b" in text


def test_the_text_does_not_depend_on_the_order_of_making() -> None:
    turned = replace(RICH, nodes=dict(reversed(RICH.nodes.items())))

    assert to_text(turned) == to_text(RICH)


def test_a_key_that_this_version_does_not_know_is_refused() -> None:
    """It would be lost with the next change; it is a newer version's, or a slip of the pen."""
    raw = json.loads(to_text(RICH))
    raw["cluster"]["colour"] = "blue"

    with pytest.raises(Refused, match=r"\(cluster\.colour\): this gnt-mesh does not know this key"):
        from_text(json.dumps(raw))


@pytest.mark.parametrize("cut", [0, 1, 100, 1000])
def test_a_truncated_text_is_refused(cut: int) -> None:
    with pytest.raises(Refused, match=r"config\.data is damaged at line \d+, column \d+.*: .+"):
        from_text(to_text(RICH)[:cut])


def test_every_truncation_of_a_text_is_refused() -> None:
    text = to_text(a_config()).encode().rstrip()

    for length in range(len(text)):
        with pytest.raises(Refused):
            from_text(text[:length])


def test_damage_is_located() -> None:
    """An administrator who edited by hand needs the place, not only the fact."""
    with pytest.raises(Refused, match=r"line 1, column 13 \(cluster\): "):
        from_text('{"cluster": oops}')
    raw = json.loads(to_text(RICH))
    raw["nodes"]["uuid-node2"]["offline"] = "yes"
    with pytest.raises(Refused, match=r"\(nodes\.uuid-node2\.offline\): Expected `bool`, got `str`"):
        from_text(json.dumps(raw))


@pytest.mark.parametrize("text", [b"\xff\xfe", b'{"cluster": "\xff"}', '{"a": "\\ud800"}', "[]", "null", "1e999999"])
def test_a_text_that_is_not_ours_is_refused(text: str | bytes) -> None:
    with pytest.raises(Refused):
        from_text(text)


def _with(path: str, value: Any) -> str:
    raw = json.loads(to_text(RICH))
    *way, last = path.split("/")
    here: Any = raw
    for key in way:
        here = here[int(key)] if key.isdecimal() else here[key]
    here[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("version", CONFIG_VERSION + 1, "newer at .*this gnt-mesh reads version 1; upgrade"),
        ("version", CONFIG_VERSION - 1, "this gnt-mesh reads version 1"),
        ("cluster/master_node", "uuid-nobody", "not the UUID of a master candidate"),
        ("cluster/master_node", "uuid-node3", "not the UUID of a master candidate"),
        ("cluster/candidate_pool_size", 0, "at least 1"),
        ("cluster/enabled_hypervisors", [], "at least one"),
        ("cluster/enabled_hypervisors", ["kvm", "kvm"], "one of kvm, kvm twice"),
        ("cluster/enabled_hypervisors", ["../etc"], "hypervisor '../etc'"),
        ("cluster/hvparams/kvm", {"a=b": 1}, "hypervisor parameter 'a=b'"),
        ("cluster/cluster_name", "", "1 to 255"),
        ("cluster/epoch", 0, "counts from 1"),
        ("cluster/ancillary_files/0/path", "/etc/../shadow", "not normalised"),
        ("cluster/ancillary_files/0/scope", "group-nowhere", "does not exist"),
        ("cluster/ancillary_files/0/scope", "everybody", "scope 'everybody'"),
        ("cluster/ancillary_files/0/path", PATH, "twice"),
        ("cluster/withdrawn_files/0/path", "relative", "not absolute"),
        ("nodes/uuid-node2/drained", True, "exclude each other"),
        ("nodes/uuid-node2/offline", True, "exclude each other"),
        ("nodes/uuid-node2/master_capable", False, "not master_capable"),
        ("nodes/uuid-node2/name", "node1", "twice"),
        ("nodes/uuid-node2/name", "no_de", "node name"),
        ("nodes/uuid-node2/uuid", "uuid-other", "does not fit"),
        ("nodes/uuid-node2/group", "uuid-group-gone", "does not fit"),
        ("nodes/uuid-node2/serial_no", 0, "counts from 1"),
        ("nodes/uuid-node2/public_key", a_public_key("node1"), "twice"),
        ("nodes/uuid-node2/public_key", "UAAA", "public key"),
        ("nodegroups/uuid-group-rack-2/name", "default", "twice"),
        ("nodegroups/uuid-group-rack-2/name", "a b", "group name"),
        ("nodegroups/uuid-group-rack-2/uuid", "x", "does not fit"),
    ],
)
def test_a_config_that_cannot_be_is_refused_when_it_is_read(path: str, value: object, reason: str) -> None:
    """What is let in here would stop the master later, in the middle of something."""
    with pytest.raises(Refused, match=reason):
        from_text(_with(path, value))


def test_a_lookup_by_name_names_what_there_is() -> None:
    assert RICH.node("node2").uuid == "uuid-node2"
    assert RICH.group("rack-2").uuid == "uuid-group-rack-2"
    with pytest.raises(Refused, match="node 'node4' is not in the cluster; its nodes are node1, node10, node2, node3"):
        RICH.node("node4")
    with pytest.raises(Refused, match="node group 'rack-3' is not in the cluster; its groups are default, rack-2"):
        RICH.group("rack-3")


def test_scopes_are_the_general_ones_and_one_per_group() -> None:
    assert RICH.scopes() == (ALL, MASTER_CANDIDATES, VM_CAPABLE, "group-default", "group-rack-2")


@pytest.mark.parametrize("role", ["C", "R", "D", "O", "N"])
@pytest.mark.parametrize("vm_capable", [True, False])
def test_a_node_is_in_the_scopes_of_its_flags(role: str, vm_capable: bool) -> None:
    node = a_node("node2", role, vm_capable=vm_capable)

    scopes = a_config(node).scopes_of(node)

    assert scopes[0] == ALL
    assert (MASTER_CANDIDATES in scopes) == (role == "C")
    assert (VM_CAPABLE in scopes) == vm_capable
    assert scopes[-1] == "group-default"


def test_role_letters_are_ganetis() -> None:
    config = a_config(a_node("c", "C"), a_node("r"), a_node("d", "D"), a_node("o", "O"), a_node("n", "N"))

    assert [role_letter(config, node) for node in config.sorted_nodes()] == ["C", "D", "R", "M", "O", "R"]


def test_nodes_sort_as_people_count() -> None:
    names = ["node10", "node2", "node1", "a", "node1.x", "node01"]

    assert sorted(names, key=natural_key) == ["a", "node01", "node1", "node1.x", "node2", "node10"]


def test_no_two_names_sort_alike() -> None:
    """Otherwise the order of nodes, and with it who is promoted, depends on the order in a file."""
    names = ["".join(letters) for length in (1, 2, 3) for letters in itertools.product("a01.", repeat=length)]

    assert len({natural_key(name) for name in names}) == len(names)


def test_a_new_cluster_has_its_first_node_as_master() -> None:
    names = [(NodeName(f"node{number}"), a_public_key(f"node{number}")) for number in (1, 2, 3)]

    config = new_cluster("test", nodes=names, uuids=["c", "g", "1", "2", "3"], now=5.0, master_candidates=2)

    assert config.master.name == "node1"
    assert [role_letter(config, node) for node in config.sorted_nodes()] == ["M", "C", "R"]
    assert from_text(to_text(config)) == config


def test_a_new_cluster_has_a_candidate_whatever_is_asked() -> None:
    config = new_cluster("test", nodes=[(NodeName("node1"), "")], uuids=["c", "g", "1"], now=5.0, master_candidates=0)

    assert config.master.master_candidate


def test_the_next_serial_is_beyond_every_one_that_was_given() -> None:
    """Also after an older config.data was put back and its nodes were renumbered."""
    config = a_config(a_node("node2", serial_no=7), serial_no=3)
    raised = {uuid: replace(node, serial_no=40) for uuid, node in config.nodes.items()}

    assert next_serial(config) == 8
    later: ClusterConfig = with_nodes(config, raised, 1.0)
    assert next_serial(later) == 41
    without = with_nodes(later, {"uuid-node1": later.nodes["uuid-node1"]}, 2.0)
    assert without.serial_no == 41
