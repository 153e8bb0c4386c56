"""A daemon that is killed, hangs, or is told to read its settings again."""

import pytest

from tests.support.nodes.cluster import AGENT, HELPER, MASTER, NATS, Cluster

PATH = "/etc/ganeti/daemons"


@pytest.mark.parametrize("unit", [NATS, MASTER, AGENT, HELPER])
def test_a_killed_daemon_is_back_by_itself_and_nobody_else_was_restarted(cluster: Cluster, unit: str) -> None:
    node = cluster.others[1] if unit in (AGENT, HELPER) else cluster.first
    others = {other: node.show(other, "MainPID") for other in (NATS, MASTER, AGENT, HELPER) if other != unit}
    killed, since = node.main_pid(unit), node.cursor()

    node.run("kill", "-9", killed)
    node.await_started(unit, since)

    assert node.main_pid(unit) != killed
    assert {other: node.show(other, "MainPID") for other in others} == others
    cluster.share(f"{PATH}-{unit}", f"after {unit} was killed\n")
    cluster.assert_same()


@pytest.mark.parametrize("unit", [MASTER, AGENT, HELPER])
def test_a_hung_daemon_is_noticed_by_its_watchdog(cluster: Cluster, unit: str) -> None:
    node = cluster.first if unit == MASTER else cluster.others[0]
    hung, since = node.main_pid(unit), node.cursor()

    node.run("kill", "-STOP", hung)
    node.await_started(unit, since)

    assert node.main_pid(unit) != hung
    assert "watchdog" in node.run("journalctl", "--no-pager", f"--after-cursor={since}", "-u", unit).stdout.lower()
    cluster.share(f"{PATH}-{unit}-hung", f"after {unit} hung\n")
    cluster.assert_same()


def test_an_outage_of_the_broker_trips_no_start_limit(cluster: Cluster) -> None:
    """For as long as it takes: agents wait in place, and nats-server itself is tried again and again."""
    pids = {node.name: node.main_pid(AGENT) for node in cluster.nodes}
    master, since = cluster.first.main_pid(MASTER), cluster.first.cursor()
    config = cluster.first.real("/etc/gnt-mesh/broker/nats-server.conf")
    good = config.read_text()
    config.write_text("this is no configuration\n")
    cluster.first.run("kill", "-9", cluster.first.main_pid(NATS))
    for record in cluster.first.follow(since, f"UNIT={NATS}"):
        if "restart counter is at 9" in str(record.get("MESSAGE", "")):
            break
    config.write_text(good)
    cluster.first.await_started(NATS, since)

    assert cluster.first.main_pid(MASTER) == master
    assert {node.name: node.main_pid(AGENT) for node in cluster.nodes} == pids
    cluster.share(f"{PATH}-outage", "after the outage\n")
    cluster.assert_same()


@pytest.mark.parametrize(("unit", "settings"), [(MASTER, "master.toml"), (AGENT, "agent.toml"), (HELPER, "agent.toml")])
def test_reload_reads_the_settings_again_and_refuses_bad_ones(cluster: Cluster, unit: str, settings: str) -> None:
    node = cluster.first
    file = node.real(f"/etc/gnt-mesh/{settings}")
    good, pid = file.read_text(), node.main_pid(unit)
    since = node.cursor()
    file.write_text(f"{good}rescan_interval_s = 61.0\n")
    node.systemctl("reload", unit)
    for record in node.follow(since, f"_SYSTEMD_UNIT={unit}"):
        if "settings_read" in str(record["MESSAGE"]):
            break
    file.write_text(f"{good}no_such_setting = 1\n")
    refused = node.run("systemctl", "reload", unit, check=False)
    file.write_text(good)

    assert refused.returncode != 0
    assert "unknown setting 'no_such_setting'" in node.run("journalctl", "--no-pager", f"--after-cursor={since}").stdout
    assert node.main_pid(unit) == pid
    node.systemctl("reload", unit)
    cluster.said("wait", "--timeout", "60")


def test_settings_that_are_at_fault_are_not_tried_again_and_again(cluster: Cluster) -> None:
    node = cluster.others[0]
    file = node.real("/etc/gnt-mesh/agent.toml")
    good = file.read_text()
    file.write_text("node = 7\n")
    try:
        assert node.run("systemctl", "restart", AGENT, check=False).returncode != 0
        assert (node.show(AGENT, "ExecMainStatus"), node.show(AGENT, "ActiveState")) == ("78", "failed")
    finally:
        file.write_text(good)
    node.systemctl("start", AGENT)
    cluster.assert_same()


def test_stopping_drains_the_broker(cluster: Cluster) -> None:
    """Lame duck: clients are told before, and nats-server ends by itself, with success."""
    since = cluster.first.cursor()
    cluster.first.systemctl("stop", NATS)
    said = cluster.first.run("journalctl", "--no-pager", f"--after-cursor={since}", "-u", NATS).stdout
    assert "lame duck mode" in said.lower()
    assert cluster.first.show(NATS, "Result") == "success"
    cluster.first.systemctl("start", NATS)
    cluster.said("wait", "--timeout", "60")
