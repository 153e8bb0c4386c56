"""master/core/hook_answers.py: what a file hook is told, and what its answer means."""

import json
from dataclasses import replace

import pytest

from master.core.cluster import from_text
from master.core.hook_answers import read_answer, told
from protocol.names import ALL, VM_CAPABLE, ScopeName
from tests.support.values import a_config, a_file, a_node

CONFIG = a_config(
    a_node("node10", "O"), a_node("node2", "C", vm_capable=False, group="rack"), groups=("default", "rack")
)


def line(**keys: object) -> bytes:
    return json.dumps(keys).encode()


def test_it_is_told_the_cluster_as_json_and_as_environment() -> None:
    told_text, environment = told(replace(CONFIG, serial_no=17), root="/srv/mesh/nodes/node1")

    assert from_text(told_text) == replace(CONFIG, serial_no=17)
    assert environment == {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "GNT_MESH_ROOT": "/srv/mesh/nodes/node1",
        "GNT_MESH_CLUSTER": "test",
        "GNT_MESH_MASTER": "node1",
        "GNT_MESH_SERIAL_NO": "17",
        "GNT_MESH_NODES": "node1 node2 node10",
        "GNT_MESH_MASTER_CANDIDATES": "node1 node2",
        "GNT_MESH_VM_CAPABLE": "node1 node10",
        "GNT_MESH_GROUPS": "default rack",
        "GNT_MESH_SCOPES": "all master-candidates vm-capable group-default group-rack",
        "GNT_MESH_HYPERVISORS": "kvm",
    }


def test_an_answer_is_one_object_per_line() -> None:
    output = b"\n".join(
        [
            line(path="/etc/z", scope="group-rack"),
            b"  ",
            line(path="/etc/a", scope="vm-capable", optional=True) + b"\r",
            line(path="/etc/z", scope="group-rack", optional=False),
            b"",
        ]
    )

    assert read_answer(output, CONFIG) == (
        a_file("/etc/a", VM_CAPABLE, optional=True),
        a_file("/etc/z", ScopeName("group-rack")),
    )


def test_nothing_is_an_answer() -> None:
    assert read_answer(b"", CONFIG) == read_answer(b"\n\n", CONFIG) == ()


def test_a_name_with_wildcards_is_a_name() -> None:
    """A hook can look for itself; what it says is meant as it stands."""
    assert read_answer(line(path="/etc/a*", scope="all"), CONFIG) == (a_file("/etc/a*", ALL),)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (b"hello", "line 1 of its answer: JSON is malformed"),
        (line(path="/a", scope="all") + b"\n/etc/x", "line 2 of its answer"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'{"path": "/a"}', "missing required field `scope`"),
        (line(scope="all"), "missing required field `path`"),
        (line(path="/a", scope="all", optionl=True), "unknown field `optionl`"),
        (line(path="/a", scope="all", optional="yes"), "Expected `bool`"),
        (line(path=1, scope="all"), "Expected `str`"),
        (line(path="a", scope="all"), "not absolute"),
        (line(path="/etc/../a", scope="all"), "not normalised"),
        (line(path="/a\0", scope="all"), "control character"),
        (line(path="/a", scope="everybody"), "scope 'everybody'"),
        (line(path="/a", scope="group-none"), "scope group-none does not exist; there are all"),
        (line(path="/a", scope="all") + b"\n" + line(path="/a", scope="vm-capable"), "/a is named twice, differently"),
        (b'{"path": "/\xff", "scope": "all"}', "line 1"),
        (b'{"path": "/a", "scope": "all"', "truncated"),
        (b"[" * 100_000, "line 1"),
        (b"\x00" * 1000, "line 1"),
    ],
)
def test_nonsense_is_named_with_its_line(output: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_answer(output, CONFIG)
