"""Messages and disks that must be refused: a reason, a count, the old content, and a daemon that lives on."""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import codec, identity
from protocol.messages import FileEntry, Manifest, ManifestHead, ScopeBell, Status
from protocol.names import ALL, Digest, ManagedPath, NodeName
from protocol.sealing.envelopes import signed
from protocol.sealing.signatures import Signer
from tests.support.memory_bus import seed_of
from tests.support.mesh import RunningMesh, running_mesh
from tests.support.publisher import publish
from tests.support.waiting import until, until_holds


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    with running_mesh(tmp_path_factory.mktemp("bad"), nodes=3) as mesh:
        (mesh.node_root("node1") / "etc/ganeti").mkdir(parents=True, exist_ok=True)
        put(mesh, "good", "good\n")
        done(mesh, "file", "add", "/etc/ganeti/good", "--scope", "all")
        yield mesh


def put(mesh: RunningMesh, name: str, content: str) -> Path:
    source = mesh.node_root("node1") / "etc/ganeti" / name
    source.write_text(content)
    return source


def done(mesh: RunningMesh, *arguments: str) -> None:
    result = mesh.run(*arguments)
    assert result.returncode == 0, result.stderr


def refused_by(mesh: RunningMesh, node: str) -> int:
    status = mesh.json("status")
    return next(int(entry["refused"]["count"]) for entry in status["nodes"] if entry["name"] == node)


def manifest_with(path: str, generation: int) -> bytes:
    """A manifest of a much later generation, as if the master had gone mad."""
    fields = {
        "path": path,
        "digest": "0" * 64,
        "size_bytes": 0,
        "mode": 0o644,
        "owner": "root",
        "group": "root",
        "generation": 1,
    }
    import msgpack

    good = codec.encode(Manifest(scope=ALL, epoch=1, generation=generation))
    body = msgpack.unpackb(good)
    body["files"] = [fields]
    return bytes(msgpack.packb(body))


def head_of(encoded: bytes, generation: int) -> ManifestHead:
    digest = Digest(hashlib.sha256(encoded).hexdigest())
    return ManifestHead(
        scope=ALL, epoch=1, generation=generation, digest=digest, size_bytes=len(encoded), inline=encoded
    )


def signed_by_the_master(mesh: RunningMesh, subject: str, message: object) -> bytes:
    """What only the master, or a thief of its signing key, can say."""
    return signed(subject, message, Signer(identity.read_seed(mesh.dir / "keys/signing.nk")))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1 not msgpack",
        codec.encode(ScopeBell(scope=ALL, epoch=1, generation=1))[:-4],
        codec.encode(ScopeBell(scope=ALL, epoch=1, generation=1)).replace(b"\xa1v\x03", b"\xa1v\x63"),
        codec.encode(Status(node=NodeName("node2"), boot="x", sequence=1, serial=1)),
        b"\x91" * 4000,
    ],
    ids=["empty", "garbage", "cut off", "newer version", "another kind", "deeply nested"],
)
def test_a_bell_that_is_none_is_counted_and_nothing_happens(mesh: RunningMesh, payload: bytes) -> None:
    before = refused_by(mesh, "node2")
    publish(mesh.dir, [("mesh.bell.scope.all", payload), ("mesh.bell.node.node2", payload)])

    until(lambda: refused_by(mesh, "node2") >= before + 2, near=mesh.dir)

    done(mesh, "wait")
    status = mesh.json("status")
    node = next(entry for entry in status["nodes"] if entry["name"] == "node2")
    assert node["online"] and node["in_sync"] and node["refused"]["last"]


def test_a_status_that_claims_another_nodes_name_is_refused(mesh: RunningMesh) -> None:
    before = mesh.json("status")["refused"]["count"]
    claim = codec.encode(Status(node=NodeName("node3"), boot="forged", sequence=10**9, serial=10**9))

    publish(mesh.dir, [("mesh.status.node2", claim), ("mesh.status.node2", b"garbage"), ("mesh.status.node9", claim)])

    until(lambda: mesh.json("status")["refused"]["count"] >= before + 3, near=mesh.dir)
    done(mesh, "wait")


@pytest.mark.parametrize(
    "path", ["/etc/../etc/ganeti/evil", "etc/ganeti/evil", "/etc/ganeti/evil\0", "/etc/ganeti//evil", "/"]
)
def test_a_manifest_with_an_impossible_path_is_refused_whole(mesh: RunningMesh, path: str) -> None:
    before = refused_by(mesh, "node2")
    generation = mesh.json("status")["scopes"]["all"]["generation"] + 10**6
    bell = codec.encode(ScopeBell(scope=ALL, epoch=1, generation=generation))

    encoded = manifest_with(path, generation)
    head = signed_by_the_master(mesh, "mesh.manifest.all", head_of(encoded, generation))
    publish(mesh.dir, [("mesh.manifest.all", head), ("mesh.bell.scope.all", bell)])

    until(lambda: refused_by(mesh, "node2") > before, near=mesh.dir)
    put(mesh, "good", f"after {path!r}\n")
    done(mesh, "wait")
    assert (mesh.node_root("node2") / "etc/ganeti/good").read_text() == f"after {path!r}\n"
    assert not list(mesh.dir.rglob("evil*"))


def test_a_path_outside_the_allowed_ones_is_refused_by_the_node_and_shown(mesh: RunningMesh) -> None:
    outside = mesh.node_root("node1") / "usr/bin/evil"
    outside.parent.mkdir(parents=True)
    outside.write_text("#!/bin/sh\n")

    result = mesh.run("file", "add", "/usr/bin/evil", "--scope", "all", "--timeout", "2")

    assert result.returncode == 2
    assert "node2" in result.stderr and "/usr/bin/evil" in result.stderr and "allows" in result.stderr
    assert not (mesh.node_root("node2") / "usr/bin/evil").exists()
    node = next(entry for entry in mesh.json("status")["nodes"] if entry["name"] == "node2")
    assert [error["path"] for error in node["errors"]] == ["/usr/bin/evil"]
    put(mesh, "good", "others go on\n")
    until_holds(mesh.node_root("node2") / "etc/ganeti/good", b"others go on\n", near=mesh.node_root("node2"))
    done(mesh, "file", "remove", "/usr/bin/evil")


@pytest.mark.parametrize("path", ["/etc/gnt-mesh/agent.toml", "/var/lib/gnt-mesh/agent/ledger.json"])
def test_the_meshs_own_files_on_a_node_are_out_of_reach(mesh: RunningMesh, path: str) -> None:
    """The master does not even publish them; that an agent would not write them is shown in its own tests."""
    there = mesh.node_root("node2") / path.lstrip("/")
    before = there.read_bytes() if path.endswith("toml") else b""

    result = mesh.run("file", "add", path, "--scope", "all", "--timeout", "1")

    assert result.returncode == 1 and "never shipped" in result.stderr
    assert not before or there.read_bytes() == before


def test_a_symlink_on_the_way_is_refused(mesh: RunningMesh) -> None:
    victim = mesh.node_root("node2") / "victim"
    victim.mkdir()
    (mesh.node_root("node2") / "etc/linked").symlink_to(victim)
    (mesh.node_root("node1") / "etc/linked").mkdir()
    (mesh.node_root("node1") / "etc/linked/file").write_text("x")

    result = mesh.run("file", "add", "/etc/linked/file", "--scope", "all", "--timeout", "1")

    assert result.returncode == 2 and "symbolic link" in result.stderr
    assert list(victim.iterdir()) == []
    (mesh.node_root("node2") / "etc/linked").unlink()
    done(mesh, "wait")
    assert (mesh.node_root("node2") / "etc/linked/file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file immutable")
def test_an_immutable_file_keeps_its_content_and_is_tried_again(mesh: RunningMesh) -> None:
    put(mesh, "fixed", "old\n")
    done(mesh, "file", "add", "/etc/ganeti/fixed", "--scope", "all")
    there = mesh.node_root("node3") / "etc/ganeti/fixed"
    if subprocess.run(["chattr", "+i", there], capture_output=True, check=False).returncode:
        pytest.skip("this file system knows no immutable files")
    try:
        put(mesh, "fixed", "new\n")
        result = mesh.run("wait", "--timeout", "2")
        assert result.returncode == 2
        assert "node3" in result.stderr and "/etc/ganeti/fixed" in result.stderr
        assert there.read_text() == "old\n"
    finally:
        subprocess.run(["chattr", "-i", there], check=True)
    done(mesh, "wait")
    assert there.read_text() == "new\n"


def test_a_directory_in_the_place_of_a_file_is_refused_by_name(mesh: RunningMesh) -> None:
    (mesh.node_root("node3") / "etc/ganeti/taken").mkdir()
    put(mesh, "taken", "x")

    result = mesh.run("file", "add", "/etc/ganeti/taken", "--scope", "all", "--timeout", "1")

    assert result.returncode == 2 and "is a directory" in result.stderr
    (mesh.node_root("node3") / "etc/ganeti/taken").rmdir()
    done(mesh, "wait")


@pytest.mark.parametrize("who", ["nobody", "the thief of another mesh's key"])
def test_a_manifest_that_the_master_has_not_signed_is_refused_with_a_reason(mesh: RunningMesh, who: str) -> None:
    """Whoever may write to the bus, an administrator or the broker itself, cannot make a node act."""
    before = refused_by(mesh, "node2")
    forged = head_of(codec.encode(Manifest(scope=ALL, epoch=1, generation=10**9)), 10**9)
    bell = codec.encode(ScopeBell(scope=ALL, epoch=1, generation=10**9))
    thief = Signer(seed_of("another mesh"))
    payload = codec.encode(forged) if who == "nobody" else signed("mesh.manifest.all", forged, thief)

    publish(mesh.dir, [("mesh.manifest.all", payload), ("mesh.bell.scope.all", bell)])

    until(lambda: refused_by(mesh, "node2") > before, near=mesh.dir)
    node = next(entry for entry in mesh.json("status")["nodes"] if entry["name"] == "node2")
    assert ("not signed" if who == "nobody" else "not this cluster's master") in node["refused"]["last"]
    put(mesh, "good", f"nothing from {who}\n")
    until_holds(mesh.node_root("node2") / "etc/ganeti/good", f"nothing from {who}\n".encode(), near=mesh.dir)
    done(mesh, "wait")
    assert mesh.json("status")["scopes"]["all"]["generation"] < 10**9


def test_a_far_generation_on_the_bus_is_gone_beyond(mesh: RunningMesh) -> None:
    """As after an older disk was restored: the master goes beyond what it finds, and all nodes are right again."""
    entry = FileEntry(
        path=ManagedPath("/etc/ganeti/forged"),
        digest=Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        size_bytes=0,
        mode=0o644,
        owner="root",
        group="root",
        generation=10**8,
    )
    forged = codec.encode(Manifest(scope=ALL, epoch=1, generation=10**8, files=(entry,)))
    head = signed_by_the_master(mesh, "mesh.manifest.all", head_of(forged, 10**8))
    publish(mesh.dir, [("mesh.manifest.all", head)])

    good = mesh.node_root("node2") / "etc/ganeti/good"
    until(lambda: mesh.json("status")["scopes"]["all"]["generation"] > 10**8, near=mesh.dir, timeout_s=30)
    done(mesh, "wait")
    assert good.exists() and not (mesh.node_root("node2") / "etc/ganeti/forged").exists()
