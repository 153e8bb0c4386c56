"""broker_config: what the server is told, and that it understands it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master import certificates
from master.certificates import Pair
from master.core.broker_config import render_access, render_nodes, render_own, render_server
from protocol.names import ALL, MASTER_CANDIDATES, NodeName
from protocol.permissions import node_permissions
from tests.support import strategies
from tests.support.broker import SERVER, broker
from tests.support.builders import NODE1, NODE2
from tests.support.memory_bus import public_key_of

MASTER, ADMIN, SYSTEM, JOIN = (public_key_of(NodeName(name)) for name in ("master", "admin", "system", "join"))
OWN = {"master": [MASTER], "admin": [ADMIN], "system": [SYSTEM], "join": [JOIN]}
KEY1, KEY2 = public_key_of(NODE1), public_key_of(NODE2)


def a_server(**given: Any) -> str:
    return render_server(
        **{
            "server_name": "mesh",
            "host": "127.0.0.1",
            "port": 4222,
            "store_dir": "store",
            "nodes_file": "nodes.conf",
            "certificate_file": "server.pem",
        }
        | given
    )


def is_accepted(directory: Path, server: str, nodes: str, access: str = "") -> bool:
    """Ask the server itself."""
    (directory / "server.conf").write_text(server)
    (directory / "nodes.conf").write_text(nodes)
    (directory / "access.conf").write_text(access or render_access([], []))
    authority = Pair(directory / "ca.key", directory / "ca.pem")
    certificates.ensure_authority(authority, "mesh")
    certificates.ensure_server(directory / "server.pem", authority, ["127.0.0.1"])
    for name, content in render_own(OWN).items():
        (directory / name).write_bytes(content)
    command = [SERVER, "-t", "-c", "server.conf"]
    checked = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=20)
    assert "is valid" in checked.stderr or checked.returncode, checked.stderr
    return checked.returncode == 0


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"port": -1},
        {"monitor_port": 8222},
        {"host": "::1", "monitor_port": 8222},
        {"host": "broker.example.com"},
        {"server_name": 'a"name"with\\$HOME#süd//{'},
        {"store_dir": "/var/lib/gnt mesh/$JS/%41"},
    ],
)
def test_the_server_accepts_its_configuration(tmp_path: Path, given: dict[str, Any]) -> None:
    assert is_accepted(tmp_path, a_server(**given), render_nodes([]))
    assert is_accepted(tmp_path, a_server(**given), render_nodes([(KEY1, NODE1, [ALL]), (KEY2, NODE2, [])]))


def test_the_server_does_not_accept_anything(tmp_path: Path) -> None:
    """The check above can fail."""
    assert not is_accepted(tmp_path, a_server(), "users: [ { nkey: UNONSENSE } ]")
    assert not is_accepted(tmp_path, a_server() + "\nno_such_field: 1\n", render_nodes([]))


async def test_strings_mean_what_they_are(tmp_path: Path) -> None:
    """No variable, no escape, no comment, however the directory is called."""
    directory = tmp_path / 'it\'s "odd" $HOME \\t # süd'

    async with broker(directory) as server:
        assert server.store_dir.is_dir()


def test_flags_are_pinned_where_the_server_knows_them() -> None:
    """2.12 and 2.13 refuse the field; from 2.14 on the default may change below our feet."""
    pinned = "feature_flags { js_ack_fc_v2: false }"

    assert pinned in a_server()
    assert pinned in a_server(server_version=(2, 14, 0))
    assert pinned in a_server(server_version=(3, 0, 0))
    for version in ((2, 12, 7), (2, 13, 9)):
        assert "feature_flags" not in a_server(server_version=version)


def test_nothing_listens_but_the_one_port() -> None:
    text = a_server(host="10.0.0.1", port=4300)

    assert 'host: "10.0.0.1"\nport: 4300\n' in text
    assert "http" not in text
    assert 'http: "10.0.0.1:8222"' in a_server(host="10.0.0.1", monitor_port=8222)
    for other in ("cluster", "leafnodes", "websocket", "mqtt", "gateway", "no_auth_user"):
        assert other not in text


def test_accounts_and_users_are_those_of_the_design() -> None:
    text = a_server()

    assert "system_account: SYS" in text
    assert text.count("jetstream: enabled") == 1
    own = {name: content.decode() for name, content in render_own(OWN | {"master": [MASTER, KEY1]}).items()}
    for name, keys in {"ctl.conf": (MASTER, KEY1, ADMIN), "sys.conf": (SYSTEM,), "join.conf": (JOIN,)}.items():
        assert text.count(f'include "{name}"') == 1
        assert [own[name].count(key) for key in keys] == [1] * len(keys) and own[name].count("nkey") == len(keys)
    assert "mesh.api.join" in own["join.conf"] and "permissions" not in own["ctl.conf"]
    assert '{ service: "$JS.API.DIRECT.GET.*", response_type: stream }' in text
    assert '{ service: "$JS.API.DIRECT.GET.*.>" }' in text
    assert '{ service: { account: CTL, subject: "mesh.ask.*.>" }, share: true }' in text
    assert '{ stream: { account: CTL, subject: "mesh.bell.>" } }' in text


def test_a_node_is_given_the_permissions_of_the_table() -> None:
    text = render_nodes([(KEY1, NODE1, [MASTER_CANDIDATES, ALL])])
    allowed = node_permissions(NODE1, [ALL, MASTER_CANDIDATES])

    assert f"nkey: {KEY1}" in text
    for subject in (*allowed.publish, *allowed.subscribe):
        assert f'"{subject}"' in text
    assert text.count('"') == 2 * (len(allowed.publish) + len(allowed.subscribe) + 1)
    assert 'allow_responses: { max: 1, expires: "60s" }' in text


@given(st.lists(st.tuples(strategies.nodes, st.sets(strategies.scopes)), max_size=5, unique_by=lambda each: each[0]))
def test_equal_fleets_have_equal_texts(fleet: list[tuple[NodeName, set[str]]]) -> None:
    """A text that is the same needs no reload."""
    nodes = [(public_key_of(node), node, sorted(scopes)) for node, scopes in fleet]
    turned = [(key, node, scopes[::-1]) for key, node, scopes in reversed(nodes)]

    assert render_nodes(nodes) == render_nodes(turned)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "U", KEY1.lower(), KEY1[:-1] + "A", 'U"}', KEY1 + "\n"])
def test_what_is_no_key_is_refused(key: str) -> None:
    """One bad key, and the server refuses the whole file."""
    with pytest.raises(ValueError, match="public key"):
        render_nodes([(key, NODE1, [ALL])])
    for user in ("master", "admin", "system"):
        with pytest.raises(ValueError, match="public key"):
            render_own(OWN | {user: [key]})


def test_a_key_belongs_to_one_user() -> None:
    with pytest.raises(ValueError, match="one public key"):
        render_nodes([(KEY1, NODE1, [ALL]), (KEY1, NODE2, [])])
    with pytest.raises(ValueError, match="a key each"):
        render_own(OWN | {"admin": [MASTER]})


@pytest.mark.parametrize("file", ["", "/etc/nodes.conf", 'a"b', "a'b", "a\\b", "a\nb"])
def test_a_file_that_cannot_be_included_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match="nodes file"):
        a_server(nodes_file=file)


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "\x7f"])
def test_control_characters_are_refused(text: str) -> None:
    for field in ("host", "store_dir"):
        with pytest.raises(ValueError, match="control character"):
            a_server(**{field: text})


@pytest.mark.parametrize("name", ["", "a b", "a\nb", " "])
def test_a_server_name_without_spaces_is_needed(name: str) -> None:
    """The server says so itself, but only when it starts."""
    with pytest.raises(ValueError, match="server name"):
        a_server(server_name=name)
