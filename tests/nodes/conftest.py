"""One lab and one cluster in it for all tests of this folder; every test leaves it whole."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.nodes import outside
from tests.support.nodes.cluster import MASTER, PACKAGES, Cluster
from tests.support.nodes.lab import Lab

DIST = Path(__file__).parents[2] / "dist"
OS = "/srv/ganeti/os/slow"
CREATE = f"""#!/bin/sh
echo said by the script
echo begun >>"$DISK_0_PATH"
echo begun >{OS}/begun
read word <{OS}/go
echo "ended after $word" >>"$DISK_0_PATH"
"""
RENAME = """#!/bin/sh -e
root=$(mktemp -d /srv/root.XXXXXX)
mount -t tmpfs none "$root"
mkdir "$root/dev"
mknod "$root/dev/null" c 1 3
touch "$root/file"
chown 1000:1000 "$root/file"
chmod 4755 "$root/file"
chroot / true
umount "$root"
rmdir "$root"
"""
"""What an installation does, besides writing a disk: all of this takes rights that a job's unit has to have."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with the package, a cluster of them, everything in sync."""
    if outside.INSIDE not in os.environ:
        why = outside.missing()
        pytest.skip(f"needs a lab, which `make test-nodes` opens{f'; here it cannot: {why}' if why else ''}")
    packages = sorted(DIST.glob("gnt-mesh_*.deb"), key=lambda path: path.stat().st_mtime)
    assert packages, "no package in dist: make deb"
    lab = Lab(3, {str(DIST): PACKAGES})
    try:
        made = Cluster(lab, packages[-1])
        made.make()
        yield made
    finally:
        lab.end()


@pytest.fixture(autouse=True)
def whole(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that failed, what the daemons have said; before the next, a lab without faults."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        print(cluster.logs())  # noqa: T201 - pytest shows it with the failure
    cluster.lab.heal()


@pytest.fixture(scope="session")
def slow_os(cluster: Cluster) -> str:
    """An OS on the second node whose script says that it has begun and waits to be let go."""
    node, since = cluster.others[0], cluster.first.cursor()
    for script in ("create", "import", "export", "rename"):
        text = {"create": CREATE, "rename": RENAME}.get(script, "#!/bin/sh\n")
        node.write(f"{OS}/{script}", text, 0o755)
    node.run("mkfifo", "-m", "666", f"{OS}/begun", f"{OS}/go")
    node.write(f"{OS}/ganeti_api_version", "15\n")
    for record in cluster.first.follow(since, f"_SYSTEMD_UNIT={MASTER}"):
        if "os_definitions_known" in record["MESSAGE"] and json.loads(record["MESSAGE"])["count"]:
            return "slow"
    raise AssertionError("the journal has ended")


@pytest.fixture
def a_job(cluster: Cluster, slow_os: str) -> Callable[[str], str]:
    """Begin the installation of a named instance; returns its job once the script runs."""
    node = cluster.others[0]

    def begin(instance: str) -> str:
        node.run("touch", f"/srv/{instance}")
        options = ("-n", node.name, "-o", slow_os, "--disk", f"/srv/{instance}", "--submit")
        told = cluster.json("instance", "add", instance, *options)
        assert node.said("cat", f"{OS}/begun") == "begun"
        return str(told["job_id"])

    return begin


@pytest.fixture
def let_go(cluster: Cluster) -> Callable[[], None]:
    """Let the script of the job that runs come to its end."""

    def go() -> None:
        cluster.others[0].run("sh", "-c", f"echo go >{OS}/go")

    return go
