"""permissions: the table that the server enforces (design, D6; SPEC.md, section 3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import subjects
from protocol.names import ALL, MASTER_CANDIDATES, NodeName, ScopeName
from protocol.permissions import (
    CTL,
    EXPORTS,
    IMPORTS,
    JOIN,
    NODES,
    OPS,
    READING_VERBS,
    access_permissions,
    node_permissions,
)
from tests.support import strategies
from tests.support.builders import NODE1

NEVER = ("$JS.API.STREAM", "$JS.API.CONSUMER", "$JS.ACK", "$KV", "$O.", "$SYS", "mesh.files", "mesh.blob", "mesh.api")


def test_a_nodes_permissions_are_those_of_the_specification() -> None:
    own = node_permissions(NODE1, [ALL, MASTER_CANDIDATES])

    assert own.publish == (
        "mesh.status.node1_example_com",
        "mesh.os.log.node1_example_com.>",
        "mesh.ask.node1_example_com.>",
        "$JS.API.DIRECT.GET.FILES_all",
        "$JS.API.DIRECT.GET.FILES_all.>",
        "$JS.API.DIRECT.GET.BLOBS_all.>",
        "$JS.API.DIRECT.GET.FILES_master-candidates",
        "$JS.API.DIRECT.GET.FILES_master-candidates.>",
        "$JS.API.DIRECT.GET.BLOBS_master-candidates.>",
        "$JS.API.DIRECT.GET.ROLES.mesh.role.node1_example_com",
        "$JS.API.DIRECT.GET.OSREQ.mesh.os.req.node1_example_com",
    )
    assert own.subscribe == (
        "_INBOX_node1_example_com.>",
        "mesh.bell.node.node1_example_com",
        "mesh.rpc.node1_example_com.>",
        "mesh.bell.scope.all",
        "mesh.bell.scope.master-candidates",
        "$SRV.PING",
        "$SRV.PING.>",
        "$SRV.INFO",
        "$SRV.INFO.>",
        "$SRV.STATS",
        "$SRV.STATS.>",
    )


def test_the_order_of_scopes_does_not_matter() -> None:
    assert node_permissions(NODE1, [ALL, MASTER_CANDIDATES]) == node_permissions(NODE1, {MASTER_CANDIDATES, ALL})


def test_a_node_in_no_scope_reads_no_file() -> None:
    allowed = node_permissions(NODE1, [])

    assert not any("FILES" in subject or "BLOBS" in subject for subject in allowed.publish)
    assert not any("mesh.bell.scope" in subject for subject in allowed.subscribe)


@given(strategies.nodes, st.sets(strategies.scopes, max_size=4))
def test_no_permission_is_wider_than_its_tail(node: NodeName, scopes: set[ScopeName]) -> None:
    """A wildcard stands last and behind a token of the node's or the scope's own."""
    allowed = node_permissions(node, scopes)
    for subject in (*allowed.publish, *allowed.subscribe):
        tokens = subject.split(".")
        assert "*" not in tokens
        assert ">" not in tokens[:-1]
        assert all(tokens)
        assert not subject.startswith(NEVER)


@given(strategies.nodes, strategies.nodes, st.sets(strategies.scopes, max_size=3))
def test_two_nodes_share_nothing_but_their_scopes(left: NodeName, right: NodeName, scopes: set[ScopeName]) -> None:
    if left == right:
        return
    one, other = node_permissions(left, scopes), node_permissions(right, scopes)

    streams = {subjects.files_stream(scope) for scope in scopes} | {subjects.blobs_stream(scope) for scope in scopes}
    assert all(subject.split(".")[4] in streams for subject in set(one.publish) & set(other.publish))
    shared = {subjects.scope_bell(scope) for scope in scopes}
    assert {s for s in set(one.subscribe) & set(other.subscribe) if not s.startswith("$SRV")} == shared


def test_a_node_never_reads_what_nodes_write() -> None:
    """Else its own status could be delivered, by the server's hand, as something else (nats-facts, section 1)."""
    allowed = node_permissions(NODE1, [ALL])

    assert not any("STATUS" in subject or "OSLOG" in subject for subject in allowed.publish)


def test_what_one_account_imports_the_other_exports() -> None:
    for account, other in ((CTL, NODES), (NODES, CTL), (OPS, CTL), (JOIN, CTL)):
        exported = {(export.kind, export.subject) for export in EXPORTS[other]} | {("service", "mesh.api.join")}
        assert {(imported.kind, imported.subject) for imported in IMPORTS[account]} <= exported
        assert {imported.account for imported in IMPORTS[account]} == {other}
    imported_by = {(imported.kind, imported.subject) for imports in IMPORTS.values() for imported in imports}
    assert {(export.kind, export.subject) for exports in EXPORTS.values() for export in exports} <= imported_by


def test_nodes_and_joiners_import_nothing_of_the_operators() -> None:
    assert not any("mesh.api" in imported.subject or "STREAM." in imported.subject for imported in IMPORTS[NODES])
    assert [imported.subject for imported in IMPORTS[JOIN]] == ["mesh.api.join"]
    assert not EXPORTS.get(OPS) and not EXPORTS.get(JOIN)


def test_an_observer_asks_what_looks_alone_and_reads_no_secret_stream() -> None:
    observer = access_permissions("olivia", "observer", [ALL, MASTER_CANDIDATES])
    operator = access_permissions("otto", "operator", [ALL, MASTER_CANDIDATES])
    assert {s for s in observer.publish if s.startswith("mesh.")} == {f"mesh.api.{verb}" for verb in READING_VERBS}
    assert set(operator.publish) - set(observer.publish) == {"mesh.api.>"}
    for subject in (*observer.publish, *operator.publish):
        assert "CREATE" not in subject and "PURGE" not in subject and "DELETE" not in subject
        assert not ("GET" in subject and ("*" in subject or MASTER_CANDIDATES in subject))
    assert not [s for s in observer.subscribe if s in (">", "mesh.>") or f"files.{MASTER_CANDIDATES}" in s]
    assert not set(observer.subscribe) & {"_INBOX_otto.>", "_INBOX.>"}


def test_nodes_reach_the_controlling_account_by_services_only() -> None:
    """A stream import of what nodes say would let a reply subject of theirs into the account that owns JetStream."""
    assert all(imported.kind == "service" for imported in IMPORTS[CTL])
    assert {imported.subject for imported in IMPORTS[NODES] if imported.kind == "stream"} == {"mesh.bell.>"}


def test_who_asks_is_told_by_the_server() -> None:
    shared = {imported.subject for imports in IMPORTS.values() for imported in imports if imported.share}

    assert shared == {"mesh.rpc.*.>", "mesh.ask.*.>", "mesh.api.>", "mesh.api.join"}


def test_only_answers_in_many_parts_are_remembered_by_the_server() -> None:
    """Each such answer stays in its memory until the inbox goes: single gets must not be among them."""
    many = {export.subject for exports in EXPORTS.values() for export in exports if export.answers_many}

    assert many == {"$JS.API.DIRECT.GET.*", "$SRV.>"}


@pytest.mark.parametrize("scope", ["*", ">", "all.>", "$JS", ""])
def test_what_is_no_scope_gets_no_permission(scope: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        node_permissions(NODE1, [ScopeName(scope)])


def test_what_is_no_node_gets_no_permission() -> None:
    with pytest.raises(ValueError, match="node name"):
        node_permissions(NodeName("*"), [ALL])
