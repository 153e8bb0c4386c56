"""master/core/cluster_operations.py and hv_parameters.py: settings of the cluster, checked in full before anything."""

import itertools

import pytest

from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.cluster_operations import cluster_changes, modify_cluster
from master.core.hv_parameters import hv_value, known_parameters, merged
from master.core.hypervisors import BUILT_IN, Hypervisor
from protocol.cluster_messages import ClusterModify
from protocol.errors import Refused
from tests.support.values import a_config, a_node

NOW = 100.0


def modified(config: ClusterConfig, request: ClusterModify) -> ClusterConfig:
    after = modify_cluster(config, request, hypervisors=BUILT_IN, now=NOW)
    assert from_text(to_text(after)) == after
    return after


def candidates(config: ClusterConfig) -> int:
    return sum(node.master_candidate for node in config.nodes.values())


def test_a_larger_pool_is_filled_and_a_smaller_one_demotes_nobody() -> None:
    """Over every cluster of up to four nodes, and every pair of sizes."""
    for roles in itertools.product("CRDON", repeat=3):
        for old, new in itertools.product(range(1, 5), repeat=2):
            config = a_config(*(a_node(f"node{n}", role) for n, role in enumerate(roles, 2)), pool_size=old)
            able = sum(n.master_capable and not n.offline and not n.drained for n in config.nodes.values())

            after = modified(config, ClusterModify(candidate_pool_size=new))

            expected = candidates(config) if old == new else max(candidates(config), min(able, new))
            assert candidates(after) == expected
            assert all(after.nodes[u].master_candidate for u, n in config.nodes.items() if n.master_candidate)


def test_a_promoted_nodes_serial_grows_and_nobody_elses() -> None:
    config = a_config(a_node("node2", serial_no=7), a_node("node3", "O"), pool_size=1)

    after = modified(config, ClusterModify(candidate_pool_size=2))

    assert after.nodes["uuid-node2"].serial_no == 8 and after.serial_no >= 8
    assert after.nodes["uuid-node3"] == config.nodes["uuid-node3"]


def test_enabled_hypervisors_and_parameters_are_set_and_told() -> None:
    config = a_config()
    request = ClusterModify(
        enabled_hypervisors=("kvm", "xen-hvm"),
        hvparams={"kvm": {"vnc_tls": "yes", "serial_speed": "9600", "vnc_password_file": "/etc/ganeti/vnc"}},
        modify_etc_hosts=True,
    )

    after = modified(config, request)

    assert after.cluster.enabled_hypervisors == ("kvm", "xen-hvm")
    values = {"serial_speed": 9600, "vnc_password_file": "/etc/ganeti/vnc", "vnc_tls": True}
    assert after.cluster.hvparams == {"kvm": values}
    assert list(cluster_changes(config.cluster, after.cluster)) == [
        " - enabled_hypervisors -> kvm,xen-hvm",
        " - modify_etc_hosts -> True",
        " - hvparams/kvm/serial_speed -> 9600",
        " - hvparams/kvm/vnc_password_file -> /etc/ganeti/vnc",
        " - hvparams/kvm/vnc_tls -> True",
    ]
    again = modified(after, ClusterModify(hvparams={"kvm": dict.fromkeys(values)}))
    assert again.cluster.hvparams == {}
    assert next(cluster_changes(after.cluster, again.cluster)) == " - hvparams/kvm/serial_speed -> forgotten"


def test_what_is_so_already_changes_nothing() -> None:
    config = a_config(pool_size=3)

    assert modified(config, ClusterModify(candidate_pool_size=3, hvparams={"kvm": {"vnc_tls": None}})) == config


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ClusterModify(by="me@here", reason="why not", dry_run=True), "nothing to change"),
        (ClusterModify(candidate_pool_size=0), "at least 1"),
        (ClusterModify(enabled_hypervisors=()), "at least one"),
        (ClusterModify(enabled_hypervisors=("kvm", "kvm")), "twice"),
        (ClusterModify(enabled_hypervisors=("vmware",)), "hypervisor 'vmware' is unknown here; there are chroot, fake"),
        (ClusterModify(hvparams={"vmware": {"x": "1"}}), "'vmware' is unknown"),
        (ClusterModify(hvparams={"kvm": {"colour": "blue"}}), "kvm has none of that name; it has acpi, boot_order"),
        (ClusterModify(hvparams={"kvm": {"colour": None}}), "kvm has none of that name"),
        (ClusterModify(hvparams={"kvm": {"serial_speed": "fast"}}), "'fast' is not a whole number"),
        (ClusterModify(hvparams={"kvm": {"acpi": "maybe"}}), "'maybe' is neither yes nor no"),
        (ClusterModify(hvparams={"kvm": {"kernel_args": "a\nb"}}), "control character"),
    ],
)
def test_what_cannot_be_is_refused(request_: ClusterModify, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        modified(a_config(), request_)


def test_a_third_partys_hypervisor_takes_any_name_and_keeps_texts() -> None:
    assert hv_value("acme", "colour", "yes") == "yes"
    with pytest.raises(ValueError, match="hypervisor parameter"):
        hv_value("acme", "a b", "yes")
    config = modify_cluster(
        a_config(),
        ClusterModify(enabled_hypervisors=("acme",), hvparams={"acme": {"colour": "blue"}}),
        hypervisors={**BUILT_IN, "acme": Hypervisor(name="acme")},
        now=NOW,
    )
    assert config.cluster.hvparams == {"acme": {"colour": "blue"}}


def test_every_parameter_of_ganetis_hypervisors_has_one_type() -> None:
    for hypervisor in BUILT_IN:
        names = known_parameters(hypervisor)
        assert len(set(names)) == len(names) > 0
        for name in names:
            assert merged({hypervisor: {name: "old"}}, {hypervisor: {name: None}}) == {}
