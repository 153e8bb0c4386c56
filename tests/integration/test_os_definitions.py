"""OS definitions in a real mesh: found on each node, merged, and current when a directory changes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.os_files import OS_PLACE, write_os
from tests.support.waiting import until


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("os"), nodes=3) as mesh:
        yield mesh


def found(mesh: RunningMesh, name: str) -> dict[str, Any]:
    """Return what `os list` has of one OS; nothing if it is on no node."""
    return next((one for one in mesh.json("os", "list") if one["name"] == name), {})


def place(mesh: RunningMesh, node: str) -> Path:
    return mesh.node_root(node) / OS_PLACE


def test_an_os_is_known_when_its_directory_appears_and_gone_with_it(mesh: RunningMesh) -> None:
    """Nothing has to be asked for: the agents watch, also where the search path does not exist yet."""
    for node in ("node1", "node2", "node3"):
        write_os(
            place(mesh, node),
            "whole",
            variants__list="small\nlarge\n",
            parameters="size\n",
            parameters__list="size how large\n",
            parameters__toml='[size]\ntype = "integer"\ndefault = 1\n',
        )

    one = until(lambda: (now := found(mesh, "whole")) and now["status"] == "valid" and now, near=mesh.dir)

    assert one["full_names"] == ["whole+small", "whole+large"]
    assert one["api_versions"] == [10, 15, 20]
    assert one["nodes"] == ["node1", "node2", "node3"]
    assert one["parameters"][0] | {"choices": [], "required": False, "secret": False} == {
        "name": "size",
        "since": 15,
        "help": "how large",
        "type": "integer",
        "choices": [],
        "default": "1",
        "required": False,
        "secret": False,
    }
    lines = mesh.run("os", "list", "--no-headers").stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("whole")] == ["whole+small", "whole+large"]

    directory = place(mesh, "node2") / "whole"
    directory.rename(directory.with_name(".hidden"))
    until(lambda: found(mesh, "whole")["status"] == "partial", near=mesh.dir)
    directory.with_name(".hidden").rename(directory)
    until(lambda: found(mesh, "whole")["status"] == "valid", near=mesh.dir)


def test_what_is_wrong_is_said_per_node_and_place(mesh: RunningMesh) -> None:
    for node in ("node1", "node2"):
        write_os(place(mesh, node), "broken")
    (place(mesh, "node2") / "broken" / "create").chmod(0o644)
    until(lambda: found(mesh, "broken").get("nodes") == ["node1"], near=mesh.dir)

    text = mesh.run("os", "diagnose", "broken")

    assert text.returncode == 1
    assert "broken: partial" in text.stdout
    assert "create is not executable by its owner" in text.stdout
    told = mesh.run("os", "diagnose", "broken", "--json")
    findings = {tuple(one["nodes"]): one["problems"] for one in json.loads(told.stdout)["os"][0]["findings"]}
    assert findings == {
        ("node1",): [],
        ("node2",): ["create is not executable by its owner"],
        ("node3",): [],
    }

    (place(mesh, "node2") / "broken" / "create").chmod(0o755)
    write_os(place(mesh, "node3"), "broken")
    until(lambda: mesh.run("os", "diagnose", "broken").returncode == 0, near=mesh.dir)


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_an_os_that_nobody_has_is_told_as_that(mesh: RunningMesh, flags: tuple[str, ...]) -> None:
    done = mesh.run("os", "info", "nowhere", *flags)

    told = (done.returncode, done.stdout, done.stderr)
    assert told == (1, "", "gnt-mesh: no node has an OS nowhere; see: gnt-mesh os list\n")


def test_defaults_of_parameters_are_kept_by_the_cluster(mesh: RunningMesh) -> None:
    said = mesh.run("os", "modify", "some+small", "-O", "size=2,name=a\\,b")
    assert (said.returncode, said.stdout.splitlines()) == (
        0,
        ["Modified OS some+small", " - name -> a,b", " - size -> 2"],
    )
    assert mesh.json("os", "info", "some")[0]["defaults"] == {"some+small": {"name": "a,b", "size": "2"}}

    mesh.run("os", "modify", "some+small", "-O", "size=default,name=default")
    assert "no node has an OS some" in mesh.run("os", "info", "some").stderr

    refused = mesh.run("os", "modify", "some", "-O", "na me=1")
    assert refused.returncode == 1
    assert "OS parameter 'na me'" in refused.stderr


def test_the_reports_come_back_after_a_restart_of_the_master(mesh: RunningMesh) -> None:
    write_os(place(mesh, "node3"), "third")
    until(lambda: found(mesh, "third").get("nodes") == ["node3"], near=mesh.dir)

    mesh.until_restarted("master", mesh.kill("master"))

    until(lambda: found(mesh, "third").get("nodes") == ["node3"], near=mesh.dir)


def test_a_node_that_may_not_run_instances_does_not_count(mesh: RunningMesh) -> None:
    write_os(place(mesh, "node2"), "second")
    until(lambda: found(mesh, "second").get("nodes") == ["node2"], near=mesh.dir)

    assert mesh.run("node", "modify", "node2", "--vm-capable", "no").returncode == 0

    assert found(mesh, "second") == {}
    assert mesh.run("node", "modify", "node2", "--vm-capable", "yes").returncode == 0
    assert found(mesh, "second")["nodes"] == ["node2"]
