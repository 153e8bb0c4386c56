"""master/core/preview.py: what a change would do to each node, from the manifests before and after it."""

from dataclasses import replace

from master.core import operations
from master.core.preview import SHOWN_CHARS_MAX, held, preview
from protocol.change_messages import FileChange, NodeChanges, Preview, RoleChange
from protocol.messages import Manifest
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, NodeName, ScopeName
from protocol.operator_messages import NodeAdd, NodeModify, NodeRemove
from tests.support.values import PATH, a_config, a_manifest, a_node, an_entry

SECRET = an_entry("/var/lib/ganeti/rapi.pem")


def of(*manifests: Manifest) -> dict[ScopeName, Manifest]:
    return {manifest.scope: manifest for manifest in manifests}


def published() -> dict[ScopeName, Manifest]:
    return of(a_manifest(an_entry()), a_manifest(SECRET, scope=MASTER_CANDIDATES))


def test_nothing_changes_nothing() -> None:
    config = a_config(a_node())

    assert preview(config, config, published(), published()) == Preview()


def test_what_is_added_changed_and_removed_is_told_once_for_nodes_that_are_alike() -> None:
    config = a_config(a_node("node2"), a_node("node10"), a_node("node3"))
    before = of(a_manifest(an_entry("/a"), an_entry("/b"), an_entry("/c")))
    after = of(a_manifest(an_entry("/b", "new", mode=0o600), an_entry("/c", generation=2), an_entry("/d")))

    assert preview(config, config, before, after).nodes == (
        NodeChanges(
            nodes=(NodeName("node2"), NodeName("node3"), NodeName("node10")),
            files=(
                FileChange(path=an_entry("/a").path, scope=ALL, change="removed"),
                FileChange(path=an_entry("/b").path, scope=ALL, change="changed", details=("content", "mode")),
                FileChange(path=an_entry("/d").path, scope=ALL, change="added"),
            ),
            files_count=3,
        ),
    )


def test_the_masters_own_node_is_not_among_them() -> None:
    """Its disk holds the sources: nothing is written there."""
    config = a_config()

    assert preview(config, config, {}, published()).nodes == ()


def test_a_promotion_brings_the_candidates_files() -> None:
    before = a_config(a_node("node2"), a_node("node3"))
    after = operations.modify_node(before, NodeModify(name="node2", master_candidate=True), now=1.0)

    found = preview(before, after, published(), published())

    assert found.roles == (RoleChange(node=NodeName("node2"), before="R", after="C"),)
    assert [(one.nodes, [file.change for file in one.files]) for one in found.nodes] == [(("node2",), ["added"])]


def test_a_demotion_takes_them_away_and_keeps_no_copy() -> None:
    before = a_config(a_node("node2", "C"), pool_size=1)
    after = operations.modify_node(before, NodeModify(name="node2", master_candidate=False), now=1.0)

    files = preview(before, after, published(), published()).nodes[0].files

    assert files == (
        FileChange(path=SECRET.path, scope=MASTER_CANDIDATES, change="removed", details=("no backup is kept",)),
    )


def test_a_node_that_joins_gets_what_it_must_hold_and_one_that_is_removed_keeps_what_it_has() -> None:
    one = a_config(a_node("node2"), pool_size=1)
    two = operations.add_node(one, NodeAdd(name="node4"), uuid="uuid-node4", now=1.0)

    joined = preview(one, two, published(), published())
    left = preview(two, operations.remove_node(two, NodeRemove(name="node4"), now=2.0), published(), published())

    assert joined.roles == (RoleChange(node=NodeName("node4"), before="", after="R"),)
    assert [(changes.nodes, changes.files_count) for changes in joined.nodes] == [(("node4",), 1)]
    assert left.roles == (RoleChange(node=NodeName("node4"), before="R", after=""),)
    assert left.nodes == ()


def test_an_offline_node_is_told_apart() -> None:
    config = a_config(a_node("node2"), a_node("node3", "O"))

    found = preview(config, config, {}, of(a_manifest(an_entry())))

    assert [(one.nodes, one.offline) for one in found.nodes] == [(("node2",), False), (("node3",), True)]


def test_a_file_that_only_moves_to_another_scope_does_not_change_on_nodes_of_both() -> None:
    config = a_config(a_node("node2"), replace(a_node("node3"), vm_capable=False))

    found = preview(config, config, of(a_manifest(an_entry())), of(a_manifest(an_entry(), scope=VM_CAPABLE)))

    assert [(one.nodes, one.files[0].change) for one in found.nodes] == [(("node3",), "removed")]


def test_of_two_scopes_that_list_a_path_the_newer_entry_counts() -> None:
    old, new = a_manifest(an_entry()), a_manifest(an_entry(content="new", generation=2), scope=VM_CAPABLE)

    for manifests in (of(old, new), of(new, old)):
        assert held(manifests, (ALL, VM_CAPABLE)) == {PATH: (VM_CAPABLE, new.files[0])}
        assert held(manifests, (VM_CAPABLE, ALL)) == {PATH: (VM_CAPABLE, new.files[0])}


def test_the_answer_stays_one_message_and_tells_what_it_leaves_out() -> None:
    config = a_config(a_node())
    many = a_manifest(*(an_entry(f"/etc/{'x' * 200}/{number:05}") for number in range(3000)))

    (changes,) = preview(config, config, {}, of(many)).nodes

    assert changes.files_count == 3000
    assert 1000 < len(changes.files) < SHOWN_CHARS_MAX / 200
