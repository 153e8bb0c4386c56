"""Sources go back, with mode and owner, although the master may give files to nobody."""

from tests.support.nodes.cluster import Cluster

PATH = "/etc/ganeti/history"


def test_a_rollback_gives_sources_back_as_they_were(cluster: Cluster) -> None:
    first = cluster.first
    first.write(PATH, "as it was\n", 0o640)
    first.run("chown", "daemon:adm", PATH)
    cluster.said("file", "add", PATH, "--scope", "all")
    was, generation = first.find(PATH), cluster.json("status")["scopes"]["all"]["generation"]
    cluster.edit(PATH, "a slip of the pen\n", 0o600)
    assert first.find(PATH) != was

    cluster.said("file", "rollback", str(generation), PATH)

    assert was is not None and (was.mode, was.owner, was.group) == (0o640, "daemon", "adm")
    assert cluster.found(PATH) == {node.name: was for node in cluster.nodes}
    cluster.assert_same()


def test_a_rollback_that_cannot_be_written_changes_nothing(cluster: Cluster) -> None:
    first, path = cluster.first, "/etc/ganeti/immutable/file"
    cluster.share(path, "as it was\n")
    generation = cluster.json("status")["scopes"]["all"]["generation"]
    cluster.edit(path, "newer\n")
    directory = "/etc/ganeti/immutable"
    first.run("mount", "--bind", "-o", "ro", directory, directory)
    try:
        refused = first.run("gnt-mesh", "file", "rollback", str(generation), path, check=False)
    finally:
        first.run("umount", directory)

    assert refused.returncode == 1 and "nothing was rolled back" in refused.stderr
    found = first.find(path)
    assert found is not None and found.content == b"newer\n"
    cluster.assert_same()
