"""File hooks on a real mesh: what they name is shipped, and nothing that they do wrong does any harm."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.waiting import until, until_holds

HOOKS = "etc/gnt-mesh/file-hooks.d"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("hooks"), nodes=3) as mesh:
        (mesh.node_root("node1") / "etc/site").mkdir()
        for name in ("one", "two", "three"):
            (mesh.node_root("node1") / "etc/site" / name).write_text(f"{name}\n")
        yield mesh


def hook(mesh: RunningMesh, script: str, name: str = "site") -> Path:
    """Install a hook as an administrator does: whole, under another name, then renamed."""
    directory = mesh.node_root("node1") / HOOKS
    directory.mkdir(parents=True, exist_ok=True)
    beside = directory / f".{name}"
    beside.write_text(f"#!/bin/sh\n{script}\n")
    beside.chmod(0o755)
    return beside.rename(directory / name)


def naming(*paths: str, scope: str = "all") -> str:
    lines = [json.dumps({"path": path, "scope": scope}) for path in paths]
    return "\n".join(f"echo '{line}'" for line in lines)


def on(mesh: RunningMesh, node: str, name: str) -> Path:
    return mesh.node_root(node) / "etc/site" / name


def fault(mesh: RunningMesh, name: str = "site") -> str:
    """Return what `status` says is wrong with a hook."""
    errors = {error["path"]: str(error["reason"]) for error in mesh.json("status")["errors"]}
    return errors.get(f"/{HOOKS}/{name}", "")


def test_what_a_hook_names_is_shipped_as_soon_as_it_is_installed(mesh: RunningMesh) -> None:
    hook(mesh, naming("/etc/site/one"))

    for node in ("node2", "node3"):
        until_holds(on(mesh, node, "one"), b"one\n", near=mesh.node_root(node) / "etc")
    info = mesh.json("file", "info", "/etc/site/one")[0]
    assert (info["rule"], info["reason"], info["scope"]) == ("hook", "the file hook site names it", "all")


def test_it_is_asked_again_when_the_cluster_changes(mesh: RunningMesh) -> None:
    """Told the cluster as environment and as JSON: here it names what is for the candidates there are."""
    hook(
        mesh,
        f'{naming("/etc/site/one")}\ncase "$GNT_MESH_MASTER_CANDIDATES" in *node2*) {naming("/etc/site/two")};; esac',
    )
    mesh.ok("cluster", "redist-conf")
    assert not on(mesh, "node3", "two").exists()

    mesh.ok("node", "modify", "-C", "yes", "node2")

    until_holds(on(mesh, "node3", "two"), b"two\n", near=on(mesh, "node3", "two").parent)
    mesh.ok("node", "modify", "-C", "no", "node2")
    until(lambda: not on(mesh, "node3", "two").exists(), near=mesh.dir)
    mesh.ok("cluster", "redist-conf")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo no database >&2; exit 7", "ended with exit status 7: no database"),
        ("echo nonsense", "line 1 of its answer"),
        ('echo \'{"path": "/etc/site/one", "scope": "all", "mode": 1}\'', "unknown field `mode`"),
        (naming("/etc/site/two", scope="group-none"), "scope group-none does not exist"),
        (naming("/etc/shadow"), "/etc/shadow is never shipped"),
        (naming("/etc/site/one", "/etc/site"), "/etc/site is not a regular file on the master but a directory"),
        (f"ln -sf one $GNT_MESH_ROOT/etc/site/link\n{naming('/etc/site/link')}", "/etc/site/link is a symbolic link"),
        (naming("/var/lib/ganeti/config.data"), "cannot be in two scopes"),
        ("head -c 100000000 /dev/zero", "printed more than 1048576 bytes"),
        ("true", "answered with no file at all, after 1 before"),
        ("kill -9 $$", "was killed by signal 9"),
    ],
)
def test_a_hook_that_goes_wrong_changes_nothing_and_is_shown(mesh: RunningMesh, script: str, reason: str) -> None:
    before = mesh.json("file", "list")

    hook(mesh, script)

    until(lambda: reason in fault(mesh), what=reason, near=mesh.dir)
    assert "the 1 files of its last answer stay" in fault(mesh)
    assert mesh.json("file", "list") == before
    assert on(mesh, "node2", "one").read_text() == "one\n"
    mesh.ok("wait")
    hook(mesh, naming("/etc/site/one"))
    until(lambda: not fault(mesh), near=mesh.dir)


def test_a_hook_that_hangs_holds_up_nobody(mesh: RunningMesh) -> None:
    """An edit travels while it hangs; in the end it is killed and shown."""
    source = on(mesh, "node1", "one")
    hook(mesh, "sleep 1000")

    source.write_text("edited meanwhile\n")
    mesh.ok("wait")

    assert on(mesh, "node2", "one").read_text() == "edited meanwhile\n"
    until(lambda: "did not finish within 10 s" in fault(mesh), near=mesh.dir)
    hook(mesh, naming("/etc/site/one"))
    until(lambda: not fault(mesh), near=mesh.dir)


def test_two_hooks_cannot_have_one_file_in_two_scopes(mesh: RunningMesh) -> None:
    hook(mesh, naming("/etc/site/one", scope="vm-capable"), name="zz-other")

    until(lambda: "cannot be in two scopes" in fault(mesh, "zz-other"), near=mesh.dir)
    assert fault(mesh) == ""
    (mesh.node_root("node1") / HOOKS / "zz-other").unlink()
    until(lambda: not fault(mesh, "zz-other"), near=mesh.dir)


def test_an_operator_cannot_list_what_a_hook_ships_elsewhere(mesh: RunningMesh) -> None:
    result = mesh.run("file", "add", "/etc/site/one", "--scope", "vm-capable")

    assert result.returncode == 1
    assert "cannot be in two scopes" in result.stderr and "file hook site" in result.stderr


def test_a_hook_that_others_could_change_is_not_run(mesh: RunningMesh) -> None:
    hook(mesh, naming("/etc/site/one")).chmod(0o777)
    until(lambda: "may be changed by others" in fault(mesh), near=mesh.dir)

    hook(mesh, naming("/etc/site/one")).chmod(0o644)
    until(lambda: "is not executable" in fault(mesh), near=mesh.dir)

    hook(mesh, naming("/etc/site/one"))
    until(lambda: not fault(mesh), near=mesh.dir)


def test_a_hook_that_is_gone_takes_nothing_with_it_until_an_operator_says_so(mesh: RunningMesh) -> None:
    (mesh.node_root("node1") / HOOKS / "site").unlink()

    until(lambda: "is gone; the 1 files of its last answer stay" in fault(mesh), near=mesh.dir)
    assert on(mesh, "node2", "one").exists()
    mesh.ok("file", "remove", f"/{HOOKS}/site")

    assert not on(mesh, "node2", "one").exists()
    until(lambda: not fault(mesh), near=mesh.dir)


def test_hooks_can_be_switched_off_and_on(mesh: RunningMesh) -> None:
    hook(mesh, naming("/etc/site/three"))
    until_holds(on(mesh, "node2", "three"), b"three\n", near=on(mesh, "node2", "three").parent.parent)

    mesh.ok("cluster", "modify", "--file-hooks", "no")
    assert not on(mesh, "node2", "three").exists()

    mesh.ok("cluster", "modify", "--file-hooks", "yes")
    assert on(mesh, "node2", "three").read_text() == "three\n"
