"""hv_defaults: what OS scripts are told where nobody says anything."""

import pytest

from master.core.hv_defaults import BE_DEFAULTS, HV_DEFAULTS
from master.core.hv_parameters import known_parameters, typed
from master.core.hypervisors import BUILT_IN
from protocol.os_messages import check_scalars


@pytest.mark.parametrize("hypervisor", sorted(BUILT_IN))
def test_every_parameter_has_a_default_of_its_own_kind(hypervisor: str) -> None:
    defaults = HV_DEFAULTS[hypervisor]

    assert sorted(defaults) == list(known_parameters(hypervisor))
    assert typed(hypervisor, defaults) == defaults
    check_scalars("hypervisor parameter", dict(defaults))


def test_backend_parameters_are_ganetis() -> None:
    assert sorted(BE_DEFAULTS) == ["always_failover", "auto_balance", "maxmem", "minmem", "spindle_use", "vcpus"]


def test_parameters_are_taken_as_their_hypervisor_has_them() -> None:
    """The command line cannot know them: it takes digits for a number, and true for an answer."""
    given = {"cpu_mask": 0, "acpi": True, "vnc_tls": "yes", "serial_speed": "9600", "vga": None, "kernel_args": "true"}

    assert typed("kvm", given) == {
        "cpu_mask": "0",
        "acpi": True,
        "vnc_tls": True,
        "serial_speed": 9600,
        "vga": None,
        "kernel_args": "true",
    }
    assert typed("third-party", {"any": 1}) == {"any": 1}
