"""Another version of the package, one node at a time; removal, and purge."""

import re
from collections.abc import Callable

import pytest

from tests.support.nodes.cluster import AGENT, MASTER, NATS, Cluster
from tests.support.nodes.kernel import run

PATH = "/etc/ganeti/upgrade"
NEWER = "/opt/newer.deb"
"""On each node."""


@pytest.fixture(scope="module")
def newer(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same package as a later version, on every node; returns its version."""
    directory = tmp_path_factory.mktemp("newer")
    run("dpkg-deb", "--raw-extract", cluster.package_file, directory / "tree")
    control = directory / "tree/DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: (.*)$", r"Version: \1+newer", control.read_text()))
    made = directory / "newer.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", directory / "tree", made)
    for node in cluster.nodes:
        node.real(NEWER).write_bytes(made.read_bytes())
    return run("dpkg-deb", "--field", made, "Version").stdout.strip()


def test_an_upgrade_of_one_node_at_a_time(
    cluster: Cluster, newer: str, a_job: Callable[[str], str], let_go: Callable[[], None]
) -> None:
    """The mesh runs on: no file is touched, no OS job ends, the broker is the same process, and edits arrive."""
    cluster.share(PATH, "before\n")
    job = a_job("i-upgrade")
    for number, node in enumerate((*cluster.others, cluster.first)):
        units = [AGENT, MASTER] if node is cluster.first else [AGENT]
        pids = {unit: node.main_pid(unit) for unit in units}
        broker = cluster.first.main_pid(NATS)
        inode = node.real(PATH).stat()

        cluster.install(node, NEWER)

        assert node.said("dpkg-query", "--show", "--showformat=${Version}", "gnt-mesh") == newer
        assert all(node.main_pid(unit) != pid for unit, pid in pids.items())
        assert cluster.first.main_pid(NATS) == broker
        found = node.real(PATH).stat()
        assert (found.st_ino, found.st_mtime_ns, found.st_ctime_ns) == (
            inode.st_ino,
            inode.st_mtime_ns,
            inode.st_ctime_ns,
        )
        cluster.edit(PATH, f"with {number + 1} nodes upgraded\n")
        cluster.assert_same()
    assert cluster.json("job", "info", job)["status"] == "running"
    let_go()
    cluster.said("job", "watch", job, "--timeout", "60")
    assert cluster.json("job", "info", job)["status"] == "success"


def test_removal_leaves_all_data_and_who_installs_again_goes_on(cluster: Cluster) -> None:
    node = cluster.others[1]
    cluster.share(f"{PATH}-removed", "before\n")
    kept = {path: node.find(path) for path in ("/etc/gnt-mesh/agent.toml", "/etc/gnt-mesh/agent.nk")}
    assert None not in kept.values()

    node.run("dpkg", "--remove", "gnt-mesh")

    assert not node.real("/usr/lib/gnt-mesh").exists()
    assert node.run("systemctl", "is-active", AGENT, check=False).stdout.strip() in ("inactive", "failed", "unknown")
    assert {path: node.find(path) for path in kept} == kept
    assert node.real("/var/lib/gnt-mesh/helper/ledger.json").is_file()
    assert node.find(f"{PATH}-removed") == cluster.first.find(f"{PATH}-removed")

    cluster.first.write(f"{PATH}-removed", "while it was removed\n")
    cluster.install(node)
    cluster.said("wait", "--timeout", "60")
    cluster.assert_same()


def test_purge_takes_what_is_the_meshs_own_and_leaves_what_is_the_clusters(cluster: Cluster) -> None:
    node = cluster.others[1]
    cluster.share(f"{PATH}-purged", "the cluster's\n")

    node.run("dpkg", "--purge", "gnt-mesh")

    for path in ("/etc/gnt-mesh", "/var/lib/gnt-mesh", "/usr/lib/gnt-mesh", "/run/gnt-mesh"):
        assert not node.real(path).exists(), path
    assert not node.real("/etc/systemd/system/multi-user.target.wants/gnt-mesh.target").is_symlink()
    assert node.find(f"{PATH}-purged") == cluster.first.find(f"{PATH}-purged")

    cluster.install(node)
    assert node.run("systemctl", "is-active", AGENT, check=False).stdout.strip() == "inactive"
    cluster.join(node, "--readd")
    cluster.said("wait", "--timeout", "60")
    cluster.assert_same()
