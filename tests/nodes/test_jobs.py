"""OS jobs outlive everything but their node."""

import json
from collections.abc import Callable

from tests.support.nodes.cluster import AGENT, HELPER, MASTER, NATS, Cluster
from tests.support.nodes.kernel import run


def test_a_job_goes_on_across_a_restart_of_everything(
    cluster: Cluster, a_job: Callable[[str], str], let_go: Callable[[], None]
) -> None:
    """It runs once, to its end, and how it ended is known."""
    node = cluster.others[0]
    job = a_job("i-restart")

    for where, unit in ((node, AGENT), (node, HELPER), (cluster.first, NATS), (cluster.first, MASTER)):
        where.systemctl("restart", unit)
    node.systemctl("restart", "gnt-mesh.target")
    assert cluster.json("job", "info", job)["status"] == "running"
    assert node.systemctl("is-active", f"gnt-mesh-os@{job}.service") == "active"
    let_go()
    cluster.said("job", "watch", job, "--timeout", "60")

    ended = cluster.json("job", "info", job)
    assert (ended["status"], ended["exit_code"]) == ("success", 0)
    assert node.real("/srv/i-restart").read_text() == "begun\nended after go\n"


def test_a_power_cut_leaves_a_verdict_and_nothing_runs_again(cluster: Cluster, a_job: Callable[[str], str]) -> None:
    node = cluster.others[0]
    job = a_job("i-power")

    node.cut_power()
    node.boot()
    watched = cluster.first.run("gnt-mesh", "job", "watch", job, "--timeout", "60", check=False)

    assert watched.returncode == 1
    assert cluster.json("job", "info", job)["status"] == "interrupted"
    assert node.real("/srv/i-power").read_text() == "begun\n"


def test_a_job_is_a_unit_of_its_own(cluster: Cluster, a_job: Callable[[str], str], let_go: Callable[[], None]) -> None:
    """Own control group, own journal field; it may write where disks are and nowhere else, and the helper may go."""
    node = cluster.others[0]
    job = a_job("i-unit")
    unit = f"gnt-mesh-os@{job}.service"

    runner = node.main_pid(unit)
    assert node.show(unit, "ControlGroup") == f"/gnt.slice/gnt-mesh.slice/gnt-mesh-os.slice/{unit}"
    assert f"0::{node.show(unit, 'ControlGroup')}" in node.said("cat", f"/proc/{runner}/cgroup")
    assert node.said("cat", f"/run/gnt-mesh-jobs/{job}.plan") == "", "its environment may hold secrets"
    inside = node.enter("nsenter", "-t", runner, "-m", "--", "touch", "/etc/from-a-job")
    assert run(*inside, check=False).returncode != 0
    node.systemctl("restart", HELPER)
    let_go()
    cluster.said("job", "watch", job, "--timeout", "60")

    assert cluster.json("job", "info", job)["status"] == "success"
    assert node.said("ls", "/run/gnt-mesh-jobs") == ""
    assert "said by the script" in node.run("journalctl", "--no-pager", f"GNT_MESH_JOB={job}").stdout


def test_a_script_may_do_what_an_installation_does(
    cluster: Cluster, a_job: Callable[[str], str], let_go: Callable[[], None]
) -> None:
    """It mounts, makes devices and set-id files, gives files away, and changes its root."""
    job = a_job("i-built")
    let_go()
    cluster.said("job", "watch", job, "--timeout", "60")
    cluster.said("instance", "rename", "i-built", "i-renamed")
    assert cluster.others[0].run("sh", "-c", "ls -d /srv/root.*", check=False).returncode != 0


def test_a_cancelled_job_leaves_no_process(cluster: Cluster, a_job: Callable[[str], str]) -> None:
    node = cluster.others[0]
    job = a_job("i-cancelled")
    unit = f"gnt-mesh-os@{job}.service"
    pids = node.said("cat", f"/sys/fs/cgroup{node.show(unit, 'ControlGroup')}/cgroup.procs").split()
    assert len(pids) > 1

    cluster.said("job", "cancel", job)
    cluster.first.run("gnt-mesh", "job", "watch", job, "--timeout", "60", check=False)

    assert cluster.json("job", "info", job)["status"] == "cancelled"
    assert [pid for pid in pids if node.run("kill", "-0", pid, check=False).returncode == 0] == []


def test_a_killed_job_has_a_verdict_without_the_helper(cluster: Cluster, a_job: Callable[[str], str]) -> None:
    """systemd says it, whoever else is there; the helper finds it, and nothing runs again."""
    node = cluster.others[0]
    job = a_job("i-killed")
    unit = f"gnt-mesh-os@{job}.service"
    node.systemctl("stop", "gnt-mesh-helper.socket", HELPER)
    since = node.cursor()

    node.run("kill", "-9", node.main_pid(unit))
    for record in node.follow(since, f"UNIT={unit}"):
        if "Failed with result" in str(record.get("MESSAGE", "")):
            break
    verdict = node.find(f"/var/lib/gnt-mesh/helper/jobs/{job}/verdict")
    assert verdict is not None and json.loads(verdict.content)["status"] == "interrupted"

    node.systemctl("start", "gnt-mesh-helper.socket", HELPER)
    cluster.first.run("gnt-mesh", "job", "watch", job, "--timeout", "60", check=False)
    assert cluster.json("job", "info", job)["status"] == "interrupted"
    assert node.real("/srv/i-killed").read_text() == "begun\n"
