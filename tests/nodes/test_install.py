"""What an administrator has when the package is installed and the cluster is made."""

import re

from tests.support.nodes.cluster import AGENT, HELPER, MASTER, NATS, Cluster
from tests.support.nodes.kernel import run

UNITS = "/usr/lib/systemd/system"
ALL = {NATS, MASTER, AGENT, HELPER}


def test_nothing_but_the_package_is_needed(cluster: Cluster) -> None:
    """No node has a way out of the lab; all files are as they were packed, and each command says what it is."""
    for node in cluster.nodes:
        assert node.said("dpkg", "--verify", "gnt-mesh") == ""
        for command in ("gnt-mesh", "gnt-mesh-agent", "gnt-mesh-helper", "gnt-mesh-master"):
            assert f"usage: {command}" in node.said(command, "--help").lower()
            assert node.real(f"/usr/share/man/man8/{command}.8.gz").is_file()
    assert "node\n" in cluster.first.run(
        "bash", "-c", ". /usr/share/bash-completion/completions/gnt-mesh; COMP_WORDS=(gnt-mesh no) COMP_CWORD=1;"
        "_gnt_mesh_completion gnt-mesh; printf '%s\\n' \"${COMPREPLY[@]}\"",
    ).stdout  # fmt: skip


def test_one_package_and_one_target_serve_every_node(cluster: Cluster) -> None:
    """What runs where is decided by what `cluster init` and `join` have written there."""
    for node in cluster.nodes:
        running = {unit for unit in ALL if node.show(unit, "ActiveState") == "active"}
        assert running == (ALL if node is cluster.first else {AGENT, HELPER})
        assert node.systemctl("is-enabled", "gnt-mesh.target") == "enabled"
        assert node.systemctl("is-active", "gnt-mesh.target") == "active"


def test_systemd_has_nothing_to_say_against_the_installed_units(cluster: Cluster) -> None:
    units = [str(path) for path in cluster.first.real(UNITS).glob("gnt-mesh*")]
    inside = [f"{UNITS}/{unit.rpartition('/')[2]}" for unit in units]
    done = cluster.first.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *inside)
    assert (done.stdout, done.stderr) == ("", "")


def test_who_runs_as_whom(cluster: Cluster) -> None:
    """Who talks to the network is not root, and sees no key but its own; root alone has no network."""
    first = cluster.first
    users = {unit: first.said("ps", "-o", "user:32=", "-p", first.main_pid(unit)) for unit in ALL}
    assert users == {NATS: "gnt-mesh-nats", MASTER: "gnt-mesh-master", AGENT: "gnt-mesh-agent", HELPER: "root"}
    inside = first.enter("nsenter", "-t", first.main_pid(HELPER), "-n", "--", "ip", "-brief", "link")
    assert [line.split()[0] for line in run(*inside).stdout.splitlines()] == ["lo"]
    for path, mode, group in (
        ("keys/master.nk", 0o600, "root"),
        ("keys/ca.key", 0o600, "root"),
        ("broker/live/tls.pem", 0o640, "gnt-mesh-nats"),
    ):
        found = first.find(f"/etc/gnt-mesh/{path}")
        assert found is not None and (found.mode, found.owner, found.group) == (mode, "gnt-mesh-master", group)
    for unit in (NATS, AGENT):
        inside = first.enter("nsenter", "-t", first.main_pid(unit), "-m", "--", "ls", "/etc/gnt-mesh/keys")
        assert run(*inside).stdout == ""


def test_files_have_content_mode_and_owner_on_every_node(cluster: Cluster) -> None:
    """The master is not root and yet reads what is root's alone."""
    cluster.share("/etc/ganeti/plain", "hello\n")
    cluster.first.write("/etc/ganeti/owned", "whose\n", 0o640)
    cluster.first.run("chown", "daemon:adm", "/etc/ganeti/owned")
    cluster.said("file", "add", "/etc/ganeti/owned", "--scope", "vm-capable")
    cluster.share("/etc/ganeti/private", "root's\n", mode=0o600)
    cluster.share("/etc/ganeti/backup.key", "secret\n", "master-candidates", 0o600)

    owned = cluster.others[0].find("/etc/ganeti/owned")
    assert owned is not None and (owned.content, owned.mode, owned.owner, owned.group) == (
        b"whose\n", 0o640, "daemon", "adm",
    )  # fmt: skip
    assert cluster.others[0].find("/etc/ganeti/backup.key") is None
    cluster.assert_same()


def test_the_command_founds_no_second_cluster(cluster: Cluster) -> None:
    refused = cluster.first.run("gnt-mesh", "cluster", "init", "other", check=False)
    assert refused.returncode == 1 and "nothing of it was touched" in refused.stderr


def test_the_exposure_of_what_runs(cluster: Cluster) -> None:
    """As systemd sees the units that it runs, with all that may have been added to them on this node."""
    for unit, most in ((NATS, 1.5), (MASTER, 1.5), (AGENT, 1.5), (HELPER, 2.5)):
        told = cluster.first.run("systemd-analyze", "security", "--no-pager", unit).stdout
        found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
        assert found is not None and float(found[1]) <= most, told
