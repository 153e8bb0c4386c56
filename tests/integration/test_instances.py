"""Instances in a real mesh, with the OS definition of `examples/os`: what its scripts get, and what is stored of it."""

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mesh import RunningMesh, running_mesh
from tests.support.os_files import OS_PLACE
from tests.support.waiting import until

HELLO = Path(__file__).parents[2] / "examples/os/hello"
TOKEN = "t0ken-4711"
SECRET = "s3cret-4712"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("instances"), nodes=2) as mesh:
        for node in ("node1", "node2"):
            shutil.copytree(HELLO, mesh.node_root(node) / OS_PLACE / "hello")
        shutil.copytree(HELLO, mesh.node_root("node2") / OS_PLACE / "other")
        (mesh.node_root("node2") / OS_PLACE / "other" / "parameters").write_text("lines\n")
        (mesh.node_root("node2") / OS_PLACE / "other" / "parameters.list").write_text("lines\nname\n")
        (mesh.node_root("node2") / OS_PLACE / "other" / "parameters.toml").unlink()
        until(lambda: len(mesh.json("os", "list")) >= 2, near=mesh.dir)
        until(lambda: mesh.json("os", "info", "hello")[0]["status"] == "valid", near=mesh.dir)
        yield mesh


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk0"


def add(mesh: RunningMesh, name: str, disk: Path, *more: str) -> None:
    mesh.ok("instance", "add", name, "-n", "node2", "-o", "hello+plain", "--disk", str(disk), *more)


def info(mesh: RunningMesh, name: str) -> dict[str, Any]:
    (found,) = mesh.json("instance", "info", name)
    return dict(found)


def refused(mesh: RunningMesh, *line: str) -> str:
    done = mesh.run(*line)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_what_is_stored_is_what_the_script_got(mesh: RunningMesh, disk: Path) -> None:
    mesh.ok("os", "modify", "hello", "-O", "greeting=default of the cluster")

    add(mesh, "stored", disk, "-O", "lines=1")
    mesh.ok("os", "modify", "hello", "-O", "greeting=default")

    assert disk.read_text() == "default of the cluster from stored\n"
    assert info(mesh, "stored")["osparams"] == {"greeting": "default of the cluster", "lines": "1"}


def test_the_environment_shown_is_the_one_the_script_gets(mesh: RunningMesh, disk: Path) -> None:
    script = mesh.node_root("node2") / OS_PLACE / "hello" / "create"
    kept = script.read_text()
    script.write_text('#!/bin/sh\nenv > "$DISK_0_PATH"\n')
    try:
        add(mesh, "env", disk, "-O", "greeting=a b")
    finally:
        script.write_text(kept)

    got = dict(line.split("=", 1) for line in disk.read_text().splitlines())
    shown = mesh.json("os", "env", "env")

    of_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {name: value for name, value in got.items() if name not in of_the_shell} == shown["variables"]
    assert shown["directory"] == str(mesh.node_root("node2") / OS_PLACE / "hello")
    older = mesh.json("os", "env", "env", "--api", "10")
    assert not [name for name in older["variables"] if name.startswith(("INSTANCE_HV", "INSTANCE_OS_", "OSP_"))]
    assert older["withheld"]["OSP_GREETING"] == "came with OS API 20"
    assert older["withheld"]["INSTANCE_HYPERVISOR"] == "came with OS API 15"


def test_a_reinstall_with_the_same_os_keeps_what_is_stored(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "same", disk, "-O", "greeting=hi,lines=1")

    mesh.ok("instance", "reinstall", "same", "-o", "hello+fancy", "-O", "lines=3")

    assert disk.read_text() == "*** hi *** from same\n" * 3
    until(lambda: info(mesh, "same")["os"] == "hello+fancy", near=mesh.dir)
    assert info(mesh, "same")["osparams"] == {"greeting": "hi", "lines": "3"}


@pytest.mark.parametrize(
    ("flags", "kept", "said"),
    [([], {}, ""), (["--keep-known-os-parameters"], {"lines": "1"}, "does not declare it: greeting")],
)
def test_a_reinstall_with_another_os(
    mesh: RunningMesh, disk: Path, flags: list[str], kept: dict[str, str], said: str
) -> None:
    name = f"other{len(flags)}"
    add(mesh, name, disk, "-O", "greeting=hi,lines=1")

    text = mesh.ok("instance", "reinstall", name, "-o", "other+plain", *flags)

    assert said in text
    until(lambda: info(mesh, name)["os"] == "other+plain", near=mesh.dir)
    assert info(mesh, name)["osparams"] == kept


def test_a_reinstall_that_never_begins_changes_nothing(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "waits", disk, "-O", "greeting=hi")
    mesh.kill("node2", signal.SIGSTOP)
    try:
        job = mesh.json("instance", "reinstall", "waits", "-O", "greeting=never", "--submit")["job_id"]
        assert info(mesh, "waits")["reinstalling"] == job
        for verb in ("remove", "export"):
            assert "in use by job" in refused(mesh, "instance", verb, "waits")
        mesh.ok("job", "cancel", job, "--no-wait")
    finally:
        mesh.kill("node2", signal.SIGCONT)

    until(lambda: info(mesh, "waits")["reinstalling"] is None, near=mesh.dir)
    assert info(mesh, "waits")["osparams"]["greeting"] == "hi"
    assert disk.read_text() == "hi from waits\n" * 3


def test_what_the_os_itself_refuses_is_not_stored(mesh: RunningMesh, disk: Path) -> None:
    """Its verify runs before create: no script has got these parameters, and nothing was touched."""
    add(mesh, "checked", disk, "-O", "lines=1")

    said = refused(mesh, "instance", "reinstall", "checked", "-O", "lines=10")

    assert "verify: exit code 1; at last it said: ten lines are not plain" in said
    assert (info(mesh, "checked")["osparams"]["lines"], info(mesh, "checked")["reinstalling"]) == ("1", None)
    assert disk.read_text() == "hello from checked\n"


def test_what_a_reinstall_brought_is_stored_when_its_command_returns(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "at-once", disk, "-O", "lines=1")

    mesh.ok("instance", "reinstall", "at-once", "-O", "lines=3")

    assert info(mesh, "at-once")["osparams"]["lines"] == "3"


def test_a_config_that_is_changed_by_hand_holds_a_reinstall_up_and_kills_nobody(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "by-hand", disk, "-O", "lines=1")
    master, config = mesh.pid("master"), mesh.node_root("node1") / "var/lib/ganeti/config.data"
    mesh.kill("node2", signal.SIGSTOP)
    job = mesh.json("instance", "reinstall", "by-hand", "-O", "lines=3", "--submit")["job_id"]
    kept = config.read_text()
    config.write_text(kept + "\n")
    mesh.kill("node2", signal.SIGCONT)
    mesh.ok("job", "watch", job)
    assert info(mesh, "by-hand")["reinstalling"] == job
    config.write_text(kept)

    until(lambda: info(mesh, "by-hand")["reinstalling"] is None, near=mesh.dir)

    assert info(mesh, "by-hand")["osparams"]["lines"] == "3"
    assert mesh.pid("master") == master


def test_the_same_request_with_the_same_job_id_is_one_job(mesh: RunningMesh, disk: Path) -> None:
    """Who has had no answer asks again (design, D7)."""
    ran = disk.with_name("ran")
    script = mesh.node_root("node2") / OS_PLACE / "hello" / "create"
    kept = script.read_text()
    script.write_text(f"#!/bin/sh\necho $INSTANCE_NAME | tee -a {ran} > {disk}\n")
    lines = (
        f"instance add twice -n node2 -o hello+plain --disk {disk} -O lines=1 --job-id twice-1",
        "instance reinstall twice -O lines=3 --job-id twice-2",
        "instance rename twice again --job-id twice-3",
    )
    try:
        for line in lines:
            mesh.ok(*line.split())
            assert "not run again" in mesh.ok(*line.split())
    finally:
        script.write_text(kept)

    assert ran.read_text().split() == ["twice"] * 2
    assert len(mesh.json("job", "list", "-i", "again")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "instance add mine2 -n node2 -o hello+plain --disk /x --job-id mine-1",
        "instance reinstall mine -O lines=3 --job-id mine-1",
        "instance rename mine other --job-id mine-1",
        "instance export mine --job-id mine-1",
    ],
)
def test_a_job_id_of_another_job_is_refused_before_anything_is_changed(
    mesh: RunningMesh, disk: Path, line: str
) -> None:
    if not [one for one in mesh.json("instance", "list") if one["name"] == "mine"]:
        add(mesh, "mine", disk, "-O", "lines=1", "--job-id", "mine-1")
    before = mesh.json("instance", "list")

    assert "job mine-1 is another one already (create of mine on node2)" in refused(mesh, *line.split())

    assert mesh.json("instance", "list") == before


def test_a_node_that_is_not_there_is_not_waited_for_if_so_wished(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "gone", disk)
    mesh.ok("node", "modify", "node2", "-O", "yes")
    try:
        assert "node2 is not online" in refused(mesh, "instance", "reinstall", "gone", "--no-wait")
        assert info(mesh, "gone")["reinstalling"] is None
    finally:
        mesh.ok("node", "modify", "node2", "-O", "no")


def test_confidential_parameters_reach_the_script_and_nothing_else(mesh: RunningMesh, disk: Path) -> None:
    add(
        mesh, "quiet", disk, "--os-parameters-private", f"token={TOKEN}", "--os-parameters-secret", f"greeting={SECRET}"
    )

    assert f"token {TOKEN}" in disk.read_text() and SECRET in disk.read_text()
    shown = [
        mesh.ok("instance", "info", "quiet"),
        mesh.ok("instance", "info", "quiet", "--json"),
        mesh.ok("os", "env", "quiet"),
        mesh.ok("job", "list", "--json"),
    ]
    assert not [text for text in shown if TOKEN in text or SECRET in text]
    holding = [path for path in mesh.dir.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holding == []
    private = {path.name for path in (mesh.dir / "log").iterdir() if TOKEN in path.read_text(errors="replace")}
    jobs = [path for path in mesh.dir.rglob("jobs/**/*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert (private, jobs) == (set(), [])


def test_the_example_has_a_boolean_and_a_secret(mesh: RunningMesh, disk: Path) -> None:
    add(mesh, "rich", disk, "-O", "loud=yes,lines=1", "--os-parameters-secret", f"password={SECRET}")

    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    assert disk.read_text() == f"HELLO from rich\npassword {digest}\n"
    line = ("instance", "add", "poor", "-n", "node2", "-o", "hello+plain")
    assert "OS parameter loud of hello is neither yes nor no" in refused(mesh, *line, "-O", "loud=perhaps")
    assert "is a secret; give it with --os-parameters-secret password=VALUE" in refused(mesh, *line, "-O", "password=x")


def test_rename_export_and_import(mesh: RunningMesh, disk: Path, tmp_path: Path) -> None:
    add(mesh, "first", disk, "-O", "lines=1")
    mesh.ok("instance", "rename", "first", "second")
    assert disk.read_text() == "hello from second\n"

    target = mesh.dir / "exported"
    mesh.ok("instance", "export", "second", "--to", str(target))
    assert (target / "disk0").read_text() == disk.read_text()

    copy = tmp_path / "copy"
    mesh.ok("instance", "import", "third", "-n", "node2", "-o", "hello", "--disk", str(copy), "--from", str(target))
    assert copy.read_text() == disk.read_text()
    mesh.ok("instance", "remove", "third")
    assert copy.exists()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("instance add x -n node2 -o nowhere --disk /x", "node node2 has no OS nowhere"),
        ("instance add x -n node1 -o other+plain --disk /x", "node node1 has no OS other; it is on node2"),
        ("instance add x -n node2 -o hello --disk /x", "OS hello has variants, choose one: hello+plain, hello+fancy"),
        ("instance add x -n node2 -o hello+big --disk /x", "OS hello has no variant big"),
        ("instance add x -n node2 -o hello+plain -O color=red", "does not declare parameter color"),
        ("instance add x -n node2 -o hello+plain -O lines=2", "OS parameter lines of hello is not one of 1, 3, 10"),
        ("instance add x -n node9 -o hello+plain", "node 'node9' is not in the cluster"),
        ("instance add x -n node2 -o hello+plain --hypervisor vmware", "hypervisor vmware is not enabled"),
        ("instance import x -n node2 -o hello --from /srv/x", "has no disk to export from or import into"),
        ("instance import x -n node2 -o hello --disk /x --from srv/x", "'srv/x' is not absolute"),
        ("instance modify stored -O lines=3", "only when it is reinstalled"),
        ("instance reinstall nobody", "there is no instance 'nobody'"),
        ("instance rename stored stored", "has that name already"),
        ("node modify node2 --vm-capable no", "it holds instance"),
        ("os env nobody", "there is no instance 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_up_front(mesh: RunningMesh, line: str, reason: str) -> None:
    jobs = len(mesh.json("job", "list"))

    assert reason in refused(mesh, *line.split())
    assert len(mesh.json("job", "list")) == jobs
    assert "x" not in {one["name"] for one in mesh.json("instance", "list")}


def test_a_parameter_that_is_required_is_asked_for_before_anything_is_touched(mesh: RunningMesh, disk: Path) -> None:
    needy = mesh.dir / "needy"
    shutil.copytree(HELLO, needy)
    (needy / "parameters.toml").write_text("[greeting]\nrequired = true\n")
    needy.rename(mesh.node_root("node2") / OS_PLACE / "needy")
    until(lambda: [one for one in mesh.json("os", "list") if one["name"].startswith("needy")], near=mesh.dir)
    line = ("instance", "add", "needs", "-n", "node2", "-o", "needy+plain", "--disk", str(disk))
    jobs = mesh.json("job", "list")

    assert "OS needy needs parameter greeting; give it with -O greeting=VALUE" in refused(mesh, *line, "-O", "lines=1")

    assert (disk.exists(), mesh.json("job", "list")) == (False, jobs)
    assert "needs" not in {one["name"] for one in mesh.json("instance", "list")}
    mesh.ok(*line, "-O", "lines=1,greeting=hi")
    assert disk.read_text() == "hi from needs\n"


def test_a_record_alone(mesh: RunningMesh) -> None:
    mesh.ok("instance", "add", "record", "-n", "node1", "-o", "hello+plain", "--no-install")

    assert [one["name"] for one in json.loads(mesh.ok("instance", "list", "-n", "node1", "--json"))] == ["record"]
    config = json.loads((mesh.node_root("node1") / "var/lib/ganeti/config.data").read_text())
    assert "record" in {one["name"] for one in config["instances"].values()}
