"""master/core/hypervisors.py: what each hypervisor wants, and what can be no hypervisor."""

import pytest

from master.core.hypervisors import BUILT_IN, HvValue, Hypervisor, hypervisor_name, parameter_name
from protocol.names import ManagedPath

VNC_PASSWORD = "/etc/ganeti/vnc-cluster-password"
XEN = {"/etc/xen/scripts/vif-bridge", "/etc/xen/xend-config.sxp", "/etc/xen/xl.conf"}
KVM = {"/etc/ganeti/kvm-vif-bridge", "/var/lib/ganeti/spice.pem", "/var/lib/ganeti/spice-ca.pem"}


def wanted(name: str, **parameters: HvValue) -> set[str]:
    return {path for path, _ in BUILT_IN[name].files_wanted(parameters)}


def test_the_files_of_ganetis_own_hypervisors() -> None:
    """ganeti-behaviour a.3, with xl.conf where Xen reads it and a VNC password file for kvm as well (design text)."""
    assert {name: wanted(name) for name in BUILT_IN} == {
        "xen-pvm": XEN,
        "xen-hvm": XEN | {VNC_PASSWORD},
        "kvm": KVM | {VNC_PASSWORD},
        "lxc": set(),
        "chroot": set(),
        "fake": set(),
    }


@pytest.mark.parametrize("name", ["kvm", "xen-hvm"])
def test_a_vnc_password_file_of_its_own_travels_too(name: str) -> None:
    own = "/etc/ganeti/vnc-rack2-password"

    assert wanted(name, vnc_password_file=own, vnc_tls=True) == wanted(name) | {own}
    assert wanted(name, vnc_password_file=VNC_PASSWORD) == wanted(name)


def test_so_does_a_spice_password_file_of_kvm() -> None:
    assert wanted("kvm", spice_password_file="/etc/spice") == wanted("kvm") | {"/etc/spice"}


@pytest.mark.parametrize("value", ["", None, False])
def test_a_parameter_without_a_value_names_no_file(value: HvValue) -> None:
    assert wanted("kvm", vnc_password_file=value) == wanted("kvm")


@pytest.mark.parametrize("name", ["xen-pvm", "lxc", "chroot", "fake"])
def test_other_hypervisors_do_not_know_the_parameter(name: str) -> None:
    assert wanted(name, vnc_password_file="/etc/ganeti/x") == wanted(name)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("vnc", "path 'vnc' is not absolute"), ("/etc/../shadow", "not normalised"), (True, "is True, not a path")],
)
def test_a_parameter_that_names_no_path_is_an_error(value: HvValue, reason: str) -> None:
    with pytest.raises(ValueError, match=f"vnc_password_file of hypervisor kvm.*{reason}"):
        wanted("kvm", vnc_password_file=value)


def test_every_file_has_its_reason() -> None:
    reasons = dict(BUILT_IN["kvm"].files_wanted({"vnc_password_file": "/etc/own"}))

    assert reasons[ManagedPath("/etc/ganeti/kvm-vif-bridge")] == "the enabled hypervisor kvm needs it"
    assert reasons[ManagedPath("/etc/own")] == "vnc_password_file of the enabled hypervisor kvm names it"


@pytest.mark.parametrize("name", ["", "Kvm", "a b", "-kvm", "kvm-", "../kvm", "a/b", "kvm\n", "x" * 41, "ä"])
def test_what_is_no_name_of_a_hypervisor(name: str) -> None:
    with pytest.raises(ValueError, match="hypervisor"):
        hypervisor_name(name)
    with pytest.raises(ValueError, match="hypervisor"):
        Hypervisor(name=name)


@pytest.mark.parametrize("name", ["", "a=b", "a b", "a\nb", "x" * 101, "-a"])
def test_what_is_no_name_of_a_parameter(name: str) -> None:
    with pytest.raises(ValueError, match="hypervisor parameter"):
        parameter_name(name)


def test_a_hypervisor_cannot_want_what_is_no_path() -> None:
    with pytest.raises(ValueError, match="not absolute"):
        Hypervisor(name="x", files=(ManagedPath("etc/x"),))
