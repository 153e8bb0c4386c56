"""master/core/from_ganeti.py: what is read of a Ganeti 3.0 config.data, and what follows from its changes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from master.core import from_ganeti
from master.core.ancillary import Surroundings, managed_files
from master.core.cluster import ClusterConfig, from_text, role_letter, to_text
from master.core.hypervisors import BUILT_IN
from protocol.errors import Refused
from protocol.names import MASTER_CANDIDATES, VM_CAPABLE, ManagedPath
from tests.support.ganeti_config import FILE, a_ganeti, node_of, text, uuid_of
from tests.support.values import a_file, a_public_key

PATH = ManagedPath("/var/lib/ganeti/config.data")
NODE3 = uuid_of("node3.example.com")


def founded(ganeti: dict[str, Any] | None = None) -> ClusterConfig:
    raw = text(ganeti or a_ganeti())
    return from_ganeti.first_config(from_ganeti.read(raw), path=PATH, master_key=a_public_key("node1"), now=5.0)


def followed(config: ClusterConfig, ganeti: dict[str, Any]) -> ClusterConfig:
    after = from_ganeti.follow(config, from_ganeti.read(text(ganeti)), now=9.0)
    assert from_text(to_text(after)) == after
    return after


def test_the_file_in_the_repository_is_what_its_script_makes() -> None:
    assert FILE.read_bytes() == text(a_ganeti())


def test_a_ganeti_cluster_is_read_with_its_nodes_groups_roles_and_parameters() -> None:
    config = founded()

    assert from_text(to_text(config)) == config
    assert config.master.name == "node1.example.com" and config.master.public_key == a_public_key("node1")
    shown = [
        (node.name.split(".")[0], role_letter(config, node), config.nodegroups[node.group].name, node.vm_capable)
        for node in config.sorted_nodes()
    ]
    assert shown == [
        ("node1", "M", "default", True),
        ("node2", "C", "rack2", True),
        ("node3", "R", "default", False),
        ("node4", "D", "rack2", True),
        ("node5", "O", "default", True),
    ]
    assert not config.node("node5.example.com").master_capable
    cluster = config.cluster
    assert (cluster.cluster_name, cluster.candidate_pool_size) == ("cluster.example.com", 3)
    assert cluster.uuid == uuid_of("cluster.example.com") and cluster.ganeti_config_data == PATH
    assert cluster.enabled_hypervisors == ("kvm", "xen-hvm")
    assert cluster.hvparams["kvm"]["vnc_password_file"] == "/etc/ganeti/kvm-vnc"
    assert cluster.hvparams["kvm"]["acpi"] is True and cluster.hvparams["kvm"]["cpu_cores"] == 0
    assert cluster.osparams == {"debootstrap": {"filesystem": "ext4"}, "debootstrap+default": {"arch": "amd64"}}


def test_the_mesh_carries_what_lies_beside_ganetis_config_data_and_leaves_to_ganeti_what_it_ships() -> None:
    ours = ManagedPath("/var/lib/ganeti/gnt-mesh/config.data")
    surroundings = Surroundings(config_data=ours, hypervisors=BUILT_IN, release="0.1.0")
    files = {file.path: file.scope for file in managed_files(founded(), surroundings).files}

    assert files[ours] == files[ManagedPath("/var/lib/ganeti/rapi.pem")] == MASTER_CANDIDATES
    assert files[ManagedPath("/etc/ganeti/kvm-vnc")] == VM_CAPABLE
    assert PATH not in files and not any("ssconf" in path for path in files)


def test_what_has_not_changed_is_the_same_config() -> None:
    """Or every touch of Ganeti's file would be a generation."""
    config = founded()
    touched = a_ganeti() | {"serial_no": 43, "mtime": 1800000000.0}

    assert followed(config, touched) is config


@pytest.mark.parametrize("flag", ["master_candidate", "offline", "drained", "vm_capable", "master_capable"])
def test_a_flag_that_changed_there_changes_here(flag: str) -> None:
    config, ganeti = founded(), a_ganeti()
    node = node_of(ganeti, "node3.example.com")
    node[flag] = not node[flag]

    after = followed(config, ganeti)

    assert getattr(after.nodes[NODE3], flag) is node[flag]
    assert after.nodes[NODE3].serial_no > config.nodes[NODE3].serial_no
    assert after.serial_no > config.serial_no
    others = {uuid: node for uuid, node in after.nodes.items() if uuid != NODE3}
    assert others == {uuid: node for uuid, node in config.nodes.items() if uuid != NODE3}


def test_what_is_the_meshs_own_survives_what_changes_there() -> None:
    config, ganeti = founded(), a_ganeti()
    keyed = replace(config.nodes[NODE3], public_key=a_public_key("node3"))
    listed = replace(config.cluster, ancillary_files=(a_file("/etc/motd"),), epoch=4)
    config = replace(config, nodes={**config.nodes, NODE3: keyed}, cluster=listed)
    node_of(ganeti, "node3.example.com")["master_candidate"] = True
    ganeti["cluster"]["candidate_pool_size"] = 5
    ganeti["cluster"]["enabled_hypervisors"] = ["lxc"]

    after = followed(config, ganeti)

    assert after.nodes[NODE3].public_key == keyed.public_key
    assert (after.cluster.ancillary_files, after.cluster.epoch) == (listed.ancillary_files, 4)
    assert (after.cluster.candidate_pool_size, after.cluster.enabled_hypervisors) == (5, ("lxc",))
    assert after.cluster.serial_no == listed.serial_no + 1


def test_nodes_and_groups_come_and_go_as_there() -> None:
    config, ganeti = founded(), a_ganeti()
    del ganeti["nodes"][uuid_of("node4.example.com")]
    ganeti["nodegroups"]["uuid-rack3"] = {
        **ganeti["nodegroups"][uuid_of("rack2")],
        "name": "rack3",
        "uuid": "uuid-rack3",
    }
    new = {**node_of(ganeti, "node3.example.com"), "name": "node6.example.com", "uuid": "uuid-6", "group": "uuid-rack3"}
    ganeti["nodes"]["uuid-6"] = new

    after = followed(config, ganeti)

    names = [node.name.split(".")[0] for node in after.sorted_nodes()]
    assert names == ["node1", "node2", "node3", "node5", "node6"]
    assert "group-rack3" in after.scopes_of(after.node("node6.example.com"))
    assert after.node("node6.example.com").public_key == ""
    assert after.node("node6.example.com").serial_no > config.serial_no


def test_a_failover_there_is_refused_until_the_meshs_master_has_moved() -> None:
    ganeti = a_ganeti()
    ganeti["cluster"]["master_node"] = uuid_of("node2.example.com")

    with pytest.raises(Refused, match=r"Ganeti's master is node2\.example\.com now, and the mesh's is still node1"):
        followed(founded(), ganeti)


def test_another_cluster_is_not_followed() -> None:
    ganeti = a_ganeti()
    ganeti["cluster"]["uuid"] = "another"

    with pytest.raises(Refused, match="another one now"):
        followed(founded(), ganeti)


def test_a_group_that_has_files_here_cannot_go_there_unnoticed() -> None:
    config, ganeti = founded(), a_ganeti()
    files = (a_file("/etc/rack", config.scopes()[-1]),)
    config = replace(config, cluster=replace(config.cluster, ancillary_files=files))
    ganeti["nodegroups"][uuid_of("rack2")]["name"] = "rack9"

    with pytest.raises(Refused, match=r"cannot be followed: file /etc/rack: scope group-rack2 does not exist"):
        followed(config, ganeti)


def test_ganetis_own_mistakes_do_not_stop_the_following() -> None:
    """Un-offlining promotes even a node that is not master-capable there (ganeti-behaviour a.6, issue 1682)."""
    ganeti = a_ganeti()
    node_of(ganeti, "node3.example.com").update(master_candidate=True, master_capable=False)
    ganeti["cluster"]["osparams"]["image"] = {"a b": "c"}

    config = founded(ganeti)

    assert config.nodes[NODE3].master_candidate
    assert "image" not in config.cluster.osparams
    assert list(from_ganeti.oddities(from_ganeti.read(text(ganeti)))) == [
        "node node3.example.com is a master candidate that is not master-capable; it counts as capable",
        "the parameters of OS image are not such as may be passed to its scripts; they are left out",
    ]


@pytest.mark.parametrize(
    ("version", "reason"),
    [(2160000, "older at line 1"), (3020000, "newer at line 1"), (4000000, "newer at line 1")],
)
def test_another_version_is_refused_with_its_place(version: int, reason: str) -> None:
    with pytest.raises(Refused, match=f"{reason}, column .*version {version}, this gnt-mesh reads those of Ganeti 3.0"):
        from_ganeti.read(text(a_ganeti() | {"version": version}))


def test_damage_is_refused_with_its_place() -> None:
    raw = json.dumps(a_ganeti(), indent=1)
    lines = raw.split("\n")
    number = next(number for number, line in enumerate(lines) if '"drained": true' in line)
    lines[number] = lines[number].replace("true", '"yes"')

    with pytest.raises(Refused) as refused:
        from_ganeti.read("\n".join(lines).encode())

    key = f"nodes.{uuid_of('node4.example.com')}.drained"
    assert f"damaged at line {number + 1}, column " in str(refused.value) and key in str(refused.value)
    for cut in range(0, len(raw), 97):
        with pytest.raises(Refused, match="damaged at line"):
            from_ganeti.read(raw[:cut].encode())


def test_a_ganetis_file_is_told_from_ours() -> None:
    assert from_ganeti.is_ganetis(text(a_ganeti()))
    assert not from_ganeti.is_ganetis(to_text(founded()).encode())
    assert not from_ganeti.is_ganetis(b"{}") and not from_ganeti.is_ganetis(b"")
    with pytest.raises(Refused):
        from_text(text(a_ganeti()))
