"""All keys and certificates are renewed under traffic, by daemons of which none is root."""

from tests.support.nodes.cluster import AGENT, MASTER, Cluster

PATH = "/etc/ganeti/keys"


def test_every_key_is_renewed_and_outlives_reload_and_restart(cluster: Cluster) -> None:
    """An agent's key is a credential of the time of its start, and the helper keeps the new one: the new one counts."""
    before = {node.name: node.find("/etc/gnt-mesh/agent.nk") for node in cluster.nodes}
    broker = cluster.first.find("/etc/gnt-mesh/broker/live/tls.pem")

    cluster.said("cluster", "renew-crypto")

    assert all(node.find("/etc/gnt-mesh/agent.nk") != before[node.name] for node in cluster.nodes)
    renewed = cluster.first.find("/etc/gnt-mesh/broker/live/tls.pem")
    assert renewed is not None and broker is not None and renewed.content != broker.content
    assert (renewed.mode, renewed.owner, renewed.group) == (0o640, "gnt-mesh-master", "gnt-mesh-nats")
    cluster.share(f"{PATH}-new", "with new keys\n")
    cluster.others[0].systemctl("reload", AGENT)
    cluster.others[1].systemctl("restart", AGENT)
    cluster.first.systemctl("restart", MASTER)
    cluster.said("wait", "--timeout", "60")
    cluster.share(f"{PATH}-again", "and after reload and restart\n")
    cluster.assert_same()
