"""A node's role decides what it holds."""

from tests.support.nodes.cluster import Cluster

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
