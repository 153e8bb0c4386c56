"""OS jobs outlive everything but their node."""

from collections.abc import Callable

from tests.support.nodes.cluster import AGENT, HELPER, MASTER, NATS, Cluster


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
