"""Nodes that lose power, are started again, or cannot be reached."""

from tests.support.nodes.cluster import AGENT, MASTER, NATS, Cluster

PATH = "/etc/ganeti/power"


def test_a_node_without_power_catches_up_when_it_is_back(cluster: Cluster) -> None:
    node = cluster.others[1]
    cluster.share(PATH, "before\n")
    node.cut_power()
    cluster.first.write(PATH, "while it was off\n", 0o600)
    reached = cluster.first.run("gnt-mesh", "wait", "--node", cluster.others[0].name, "--timeout", "60")
    assert reached.returncode == 0

    node.boot()
    cluster.said("wait", "--timeout", "60")
    found = node.find(PATH)
    assert found is not None and (found.content, found.mode) == (b"while it was off\n", 0o600)
    cluster.assert_same()


def test_a_node_comes_back_after_a_reboot(cluster: Cluster) -> None:
    node = cluster.others[0]
    node.reboot()
    assert node.show(AGENT, "ActiveState") == "active"
    cluster.share(f"{PATH}-reboot", "after the reboot\n")
    cluster.assert_same()


def test_the_first_node_may_lose_its_power_too(cluster: Cluster) -> None:
    """Broker and master are back with it, with all that they knew; no agent was restarted meanwhile."""
    cluster.share(f"{PATH}-first", "before\n")
    pids = {node.name: node.main_pid(AGENT) for node in cluster.others}
    generation = cluster.json("status")["scopes"]["all"]["generation"]
    cluster.first.cut_power()
    cluster.first.boot()
    assert {unit: cluster.first.show(unit, "ActiveState") for unit in (NATS, MASTER, AGENT)} == dict.fromkeys(
        (NATS, MASTER, AGENT), "active"
    )
    cluster.edit(f"{PATH}-first", "after\n")
    assert cluster.json("status")["scopes"]["all"]["generation"] > generation
    assert {node.name: node.main_pid(AGENT) for node in cluster.others} == pids
    cluster.assert_same()


def test_a_node_that_was_cut_off_catches_up_when_the_network_is_whole(cluster: Cluster) -> None:
    node, reached = cluster.others
    cluster.share(f"{PATH}-part", "before\n")
    pid = node.main_pid(AGENT)
    cluster.lab.part([cluster.first, reached], [node])
    cluster.first.write(f"{PATH}-part", "while it was cut off\n")
    cluster.said("wait", "--node", reached.name, "--timeout", "60")
    assert cluster.first.run("gnt-mesh", "wait", "--timeout", "1", check=False).returncode == 2
    stale = node.find(f"{PATH}-part")
    assert stale is not None and stale.content == b"before\n"

    cluster.lab.heal()
    cluster.said("wait", "--timeout", "60")
    assert node.main_pid(AGENT) == pid
    cluster.assert_same()


def test_the_brokers_data_may_be_lost(cluster: Cluster) -> None:
    """The master's disk is the authority: all of it is published again, and no node goes backwards."""
    generation = cluster.json("status")["scopes"]["all"]["generation"]
    cluster.first.systemctl("stop", NATS)
    cluster.first.run("rm", "-r", "/var/lib/gnt-mesh/broker/jetstream")
    cluster.first.systemctl("start", NATS)
    cluster.share(f"{PATH}-wiped", "after all was lost\n")
    assert cluster.json("status")["scopes"]["all"]["generation"] > generation
    cluster.assert_same()
