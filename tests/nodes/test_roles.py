"""A node's role decides what it holds; its key is its own."""

from tests.support.nodes.cluster import AGENT, Cluster

SECRET = "/etc/ganeti/roles.key"


def test_a_promoted_node_holds_what_a_candidate_must_and_a_demoted_one_nothing_of_it(cluster: Cluster) -> None:
    """The master may not write nats-server's configuration, only the lists in it; that has to be enough."""
    cluster.share(SECRET, "secret of candidates\n", "master-candidates", 0o600)
    node = cluster.others[0]
    assert node.find(SECRET) is None

    cluster.said("node", "modify", node.name, "-C", "yes")
    found = node.find(SECRET)
    assert found is not None and (found.content, found.mode) == (b"secret of candidates\n", 0o600)
    assert node.find("/var/lib/ganeti/config.data") == cluster.first.find("/var/lib/ganeti/config.data")
    cluster.assert_same()

    cluster.said("node", "modify", node.name, "-C", "no", "--confirm", "removals")
    assert node.find(SECRET) is None
    assert node.find("/var/lib/ganeti/config.data") is None
    cluster.assert_same()


def test_a_new_key_of_a_node_outlives_its_agent(cluster: Cluster) -> None:
    """The agent has no right to write where its key lies: the helper keeps it there, for the next start."""
    node = cluster.others[0]
    before = node.find("/etc/gnt-mesh/agent.nk")
    cluster.said("cluster", "renew-crypto", "--node", node.name)
    after = node.find("/etc/gnt-mesh/agent.nk")
    assert before is not None and after is not None and before.content != after.content
    assert (after.mode, after.owner) == (0o600, "root")
    node.systemctl("restart", AGENT)
    cluster.said("wait", "--timeout", "60")
    cluster.assert_same()
