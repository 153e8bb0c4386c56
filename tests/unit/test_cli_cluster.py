"""`gnt-mesh cluster modify`: what is written on the command line, and what is asked of the master."""

from dataclasses import replace

import click
import pytest

from master.cli import options
from protocol.cluster_messages import ClusterModify
from protocol.operator_messages import Changed
from tests.support.fake_operator_bus import ASKER, FakeOperatorBus, a_goal


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("cluster modify -C 5", ClusterModify(candidate_pool_size=5)),
        ("cluster modify --candidate-pool-size 5", ClusterModify(candidate_pool_size=5)),
        ("cluster modify --enabled-hypervisors kvm,xen-hvm", ClusterModify(enabled_hypervisors=("kvm", "xen-hvm"))),
        ("cluster modify --modify-etc-hosts yes", ClusterModify(modify_etc_hosts=True)),
        ("cluster modify --use-external-mip-script No", ClusterModify(use_external_mip_script=False)),
        (
            "cluster modify -H kvm:vnc_tls=yes -H xen-pvm:-kernel_args -H kvm:acpi=no",
            ClusterModify(hvparams={"kvm": {"vnc_tls": "yes", "acpi": "no"}, "xen-pvm": {"kernel_args": None}}),
        ),
    ],
)
def test_what_is_asked_for(line: str, sent: ClusterModify) -> None:
    bus = FakeOperatorBus(answers={"cluster.modify": [Changed(goal=a_goal())]})

    assert bus.run(*line.split(), "--no-wait").exit_code == 0

    assert bus.asked == [("cluster.modify", replace(sent, by=ASKER))]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("cluster modify", "nothing to modify"),
        ("cluster modify -C 0", "0"),
        ("cluster modify -C many", "many"),
        ("cluster modify -C 99999999999999999999", "is not in the range"),
        ("cluster modify --enabled-hypervisors kvm,,lxc", "not a list of names"),
        ("cluster modify --modify-etc-hosts perhaps", "neither yes nor no"),
        ("cluster modify -H kvm", "is not HYPERVISOR:NAME=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anybody_is_asked(line: str, reason: str) -> None:
    bus = FakeOperatorBus()

    result = bus.run(*line.split())

    assert result.exit_code == 1 and reason in result.stderr
    assert bus.asked == []


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("kvm:vnc_tls=yes", ("kvm", {"vnc_tls": "yes"})),
        ("kvm:acpi,no_vnc_tls,-keymap", ("kvm", {"acpi": "yes", "vnc_tls": "no", "keymap": None})),
        ("kvm:a=b=c,d=", ("kvm", {"a": "b=c", "d": ""})),
        (r"kvm:a=b\,c,d=default", ("kvm", {"a": "b,c", "d": None})),
    ],
)
def test_hypervisor_parameters_are_written_as_ganeti_has_them(text: str, meaning: object) -> None:
    assert options.hypervisor_parameters(text) == meaning


@pytest.mark.parametrize("text", ["", "kvm", "kvm:", ":a=b", "kvm:a=1,a=2", "kvm:=1", "kvm:a,,b"])
def test_hypervisor_parameters_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError):
        options.hypervisor_parameters(text)
