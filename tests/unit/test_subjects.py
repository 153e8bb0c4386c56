"""subjects: no two things share a subject, and no name makes a subject mean more than one thing."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol import subjects
from protocol.names import ALL, MASTER_CANDIDATES, Digest, ManagedPath, NodeName, ScopeName, managed_path
from tests.support import strategies
from tests.support.builders import NODE1

SAFE_KEY = re.compile(r"[A-Za-z0-9_/=-]+(\.[A-Za-z0-9_/=-]+)*")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/etc/hosts", "etc/hosts"),
        ("/var/lib/ganeti/config.data", "var/lib/ganeti/config.data"),
        ("/root/.ssh/authorized_keys", "root/.ssh/authorized_keys"),
        ("/.x", "=2Ex"),
        ("/x.", "x=2E"),
        ("/a..b", "a=2E=2Eb"),
        ("/a b", "a=20b"),
        ("/a=20b", "a=3D20b"),
        ("/a*>$", "a=2A=3E=24"),
        ("/é", "=C3=A9"),
        ("/a.b.c", "a.b.c"),
    ],
)
def test_a_path_stays_readable_in_a_subject(path: str, key: str) -> None:
    assert subjects.path_key(ManagedPath(path)) == key


@given(strategies.paths)
@example(managed_path("/a./.b"))
def test_a_path_key_is_a_proper_tail_of_a_subject(path: ManagedPath) -> None:
    key = subjects.path_key(path)

    assert SAFE_KEY.fullmatch(key)
    assert len(key) <= 3 * len(path.encode())


_close = st.text(alphabet="a.=/ 2E*é", min_size=1, max_size=8)


@given(left=_close, right=_close)
def test_no_two_paths_share_a_key(left: str, right: str) -> None:
    """Few letters, so that what could be confused is tried."""
    try:
        paths = managed_path("/" + left), managed_path("/" + right)
    except ValueError:
        return
    assert (subjects.path_key(paths[0]) == subjects.path_key(paths[1])) == (left == right)


@given(strategies.paths)
def test_a_key_can_be_read_back(path: ManagedPath) -> None:
    raw = re.sub(rb"=([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), subjects.path_key(path).encode())

    assert "/" + raw.decode() == path


@given(strategies.nodes)
def test_a_node_is_one_token_and_back(node: NodeName) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", subjects.token(node))
    assert subjects.node_of(subjects.token(node)) == node


@pytest.mark.parametrize("token", ["", "-", "a__b", "_a", "*", ">", "a b", "é"])
def test_a_token_of_no_node_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="node name"):
        subjects.node_of(token)


@given(strategies.scopes, strategies.scopes)
def test_scopes_have_streams_and_bells_of_their_own(left: ScopeName, right: ScopeName) -> None:
    for name in (subjects.files_stream, subjects.blobs_stream, subjects.manifest, subjects.scope_bell):
        assert (name(left) == name(right)) == (left == right)
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", name(left))


def test_subjects_are_those_of_the_specification() -> None:
    content = Digest("ab" * 32)
    assert subjects.manifest(ALL) == "mesh.manifest.all"
    assert subjects.file_event(ALL, managed_path("/etc/hosts")) == "mesh.files.all.etc/hosts"
    assert subjects.blob(MASTER_CANDIDATES, content, 7) == f"mesh.blob.master-candidates.{content}.7"
    assert subjects.scope_bell(ALL) == "mesh.bell.scope.all"
    assert subjects.node_bell(NODE1) == "mesh.bell.node.node1_example_com"
    assert subjects.role(NODE1) == "mesh.role.node1_example_com"
    assert subjects.status(NODE1) == "mesh.status.node1_example_com"
    assert subjects.ask_blob(NODE1) == "mesh.ask.node1_example_com.blob"
    assert subjects.rpc(NODE1, "status") == "mesh.rpc.node1_example_com.status"
    assert subjects.api("node.add") == "mesh.api.node.add"
    assert subjects.inbox_prefix(NODE1) == "_INBOX_node1_example_com"
    assert subjects.direct_get("ROLES", subjects.role(NODE1)) == "$JS.API.DIRECT.GET.ROLES.mesh.role.node1_example_com"


@pytest.mark.parametrize("text", ["*", ">", "all.>", "a b", ""])
def test_a_stream_needs_a_scope(text: str) -> None:
    """Stream names go into permissions."""
    for stream in (subjects.files_stream, subjects.blobs_stream):
        with pytest.raises(ValueError, match="scope"):
            stream(ScopeName(text))
