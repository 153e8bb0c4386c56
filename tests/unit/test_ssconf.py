"""master/core/ssconf.py: the texts that Ganeti's tools read on every node, byte for byte."""

from dataclasses import replace
from typing import Any

import pytest

from master.core import ssconf
from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.hypervisors import HvValue
from master.core.instance import Instance
from protocol.os_names import InstanceName
from tests.support.values import a_config, a_node

RELEASE = "1.2.3"


def texts(config: ClusterConfig) -> dict[str, str]:
    return ssconf.texts(config, release=RELEASE)


def with_cluster(config: ClusterConfig, **changes: Any) -> ClusterConfig:
    return replace(config, cluster=replace(config.cluster, **changes))


def an_instance(name: str, config: ClusterConfig) -> Instance:
    return Instance(name=InstanceName(name), uuid=name, primary_node=config.master.uuid, os="noop", hypervisor="kvm")


def test_every_key_as_ganeti_writes_it() -> None:
    """ganeti-behaviour a.4: values by line, one newline at the end, nothing at all for an empty list."""
    config = with_cluster(
        a_config(
            a_node("node10", "O"),
            a_node("node3", "C", vm_capable=False),
            a_node("node2", "D", group="rack-2"),
            groups=("rack-10", "default", "rack-2"),
        ),
        enabled_hypervisors=("xen-pvm", "kvm"),
        hvparams={"kvm": {"vnc_password_file": "/etc/vnc", "acpi": True, "migration_port": 8102, "kernel_path": ""}},
    )

    config = replace(config, instances={name: an_instance(name, config) for name in ("vm10", "vm2")})

    assert texts(config) == {
        "cluster_name": "test\n",
        "hypervisor_list": "xen-pvm\nkvm\n",
        "hvparams_chroot": "",
        "hvparams_fake": "",
        "hvparams_kvm": "acpi=True\nkernel_path=\nmigration_port=8102\nvnc_password_file=/etc/vnc\n",
        "hvparams_lxc": "",
        "hvparams_xen-hvm": "",
        "hvparams_xen-pvm": "",
        "instance_list": "vm2\nvm10\n",
        "master_candidates": "node1\nnode3\n",
        "master_node": "node1\n",
        "node_list": "node1\nnode2\nnode3\nnode10\n",
        "node_vm_capable": "node1=True\nnode2=True\nnode3=False\nnode10=True\n",
        "nodegroups": "uuid-group-default default\nuuid-group-rack-2 rack-2\nuuid-group-rack-10 rack-10\n",
        "offline_nodes": "node10\n",
        "online_nodes": "node1\nnode2\nnode3\n",
        "release_version": "1.2.3\n",
    }


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (True, "x=True"),
        (False, "x=False"),
        (None, "x=null"),
        (0, "x=0"),
        (-5, "x=-5"),
        (0.5, "x=0.5"),
        (32.0, "x=32"),
        ("", "x="),
        ("a=b c", "x=a=b c"),
        ("ä", "x=ä"),
    ],
)
def test_values_of_hypervisor_parameters_look_as_in_ganeti(value: HvValue, line: str) -> None:
    config = with_cluster(a_config(), hvparams={"kvm": {"x": value}})

    assert texts(config)["hvparams_kvm"] == f"{line}\n"


def test_a_hypervisor_that_was_plugged_in_has_a_key_too() -> None:
    config = with_cluster(a_config(), enabled_hypervisors=("bhyve",), hvparams={"vmm": {"a": 1}})

    assert (texts(config)["hvparams_bhyve"], texts(config)["hvparams_vmm"]) == ("", "a=1\n")


def test_names_are_in_ganetis_own_order() -> None:
    """By runs of digits and of other characters, as its niceSort has them; not by single characters."""
    names = ["node-1", "nodea", "1node", "node1b", "node10", "node2", "node1", "node"]
    config = a_config(*(a_node(name) for name in names if name != "node1"))

    assert texts(config)["node_list"].split() == [
        "1node",
        "node",
        "node1",
        "node1b",
        "node2",
        "node10",
        "node-1",
        "nodea",
    ]


def test_candidates_are_in_the_order_of_config_data() -> None:
    """By UUID, before and after a restart: an order that changed by itself would be a generation by itself."""
    node = replace(a_node("node9", "C"), uuid="a-uuid")
    config = a_config(a_node("node5", "C"), node)

    assert texts(config)["master_candidates"] == "node9\nnode1\nnode5\n"
    assert texts(from_text(to_text(config))) == texts(config)


def test_a_value_at_the_limit_is_written_and_one_byte_more_is_a_fault() -> None:
    exact = with_cluster(a_config(), hvparams={"kvm": {"x": "y" * (ssconf.VALUE_BYTES_MAX - 3)}})
    beyond = with_cluster(a_config(), hvparams={"kvm": {"x": "y" * (ssconf.VALUE_BYTES_MAX - 2)}})

    assert ssconf.faults(exact, release=RELEASE) == {}
    assert ssconf.faults(beyond, release=RELEASE) == {
        "hvparams_kvm": "would have 131073 bytes, limit 131072, beyond which Ganeti reads none of it"
    }


def test_a_limit_counts_bytes_not_characters() -> None:
    config = with_cluster(a_config(), hvparams={"kvm": {"x": "ä" * 70_000}})

    assert list(ssconf.faults(config, release=RELEASE)) == ["hvparams_kvm"]


def test_a_line_break_in_a_value_is_a_fault() -> None:
    """It would be read as one value more, or as a parameter that nobody has set."""
    config = with_cluster(a_config(), cluster_name="a\nb", hvparams={"kvm": {"x": "1\nroot_path=/"}})

    assert ssconf.faults(config, release=RELEASE) == {
        "cluster_name": "has one value per line, and 'a\\nb' contains a line break",
        "hvparams_kvm": "has one value per line, and 'x=1\\nroot_path=/' contains a line break",
    }
