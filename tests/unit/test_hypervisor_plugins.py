"""master/hypervisor_plugins.py: a third party's distribution on the path is a hypervisor like ours."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.core.hypervisors import BUILT_IN, Hypervisor
from master.hypervisor_plugins import GROUP, all_hypervisors
from protocol.names import ManagedPath
from tests.support.plugin import install_plugin


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A directory of installed distributions that ends with the test."""
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("gnt_plugin_")]:
        del sys.modules[name]


def test_without_any_there_are_ganetis_own() -> None:
    assert all_hypervisors() == BUILT_IN


def test_an_installed_distribution_adds_its_hypervisor(site: Path) -> None:
    install_plugin(site, "bhyve", '{"files": ["/etc/bhyve.conf"], "file_parameters": ["loader"]}')

    assert all_hypervisors() == {
        **BUILT_IN,
        "bhyve": Hypervisor(name="bhyve", files=(ManagedPath("/etc/bhyve.conf"),), file_parameters=("loader",)),
    }


def test_it_may_be_a_function(site: Path) -> None:
    install_plugin(site, "bhyve", 'lambda: {"files": ["/etc/bhyve.conf"]}')

    assert all_hypervisors()["bhyve"].files == ("/etc/bhyve.conf",)


@pytest.mark.parametrize(
    "wanted",
    [
        "1 / 0",
        "None",
        '{"files": "/etc/x"}',
        '{"files": ["etc/x"]}',
        '{"files": ["/etc/../x"]}',
        '{"file": ["/etc/x"]}',
        '{"file_parameters": ["a=b"]}',
        "lambda: 1 / 0",
        "__import__('no_such_module')",
    ],
)
def test_a_broken_one_is_left_out_and_the_others_stay(site: Path, wanted: str) -> None:
    install_plugin(site, "broken", wanted)
    install_plugin(site, "bhyve", '{"files": ["/etc/bhyve.conf"]}')

    assert set(all_hypervisors()) == {*BUILT_IN, "bhyve"}


def test_none_can_take_the_place_of_ganetis_own(site: Path) -> None:
    install_plugin(site, "kvm", '{"files": ["/etc/evil"]}')

    assert all_hypervisors() == BUILT_IN


def test_the_groups_name_is_what_third_parties_rely_on() -> None:
    assert GROUP == "gnt_mesh.hypervisors"
