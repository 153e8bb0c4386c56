"""names: what passes may be put into a subject, a permission or a path as it is."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import names
from protocol.names import GroupName
from tests.support import strategies
from tests.support.builders import NODE1
from tests.support.memory_bus import public_key_of

HOSTILE = ["", " ", "*", ">", "a.*", "a.>", "a b", "a\tb", "a\nb", "a\x00", "é", "a/b", "$SYS", "{{tag}}", 'a"b']

KEY = public_key_of(NODE1)


@pytest.mark.parametrize("text", ["a", "node1", "NODE1.Example.COM", "1", "a-b.c-d", "x" * 63])
def test_a_host_name_is_a_node_name(text: str) -> None:
    assert names.node_name(text) == text


@pytest.mark.parametrize("text", [*HOSTILE, "a_b", ".a", "a.", "a..b", "-a", "a-", "a.-b", "x" * 64, "a\n"])
def test_what_would_be_ambiguous_or_harmful_is_no_node_name(text: str) -> None:
    with pytest.raises(ValueError, match="node name"):
        names.node_name(text)


@pytest.mark.parametrize("text", ["default", "g_1", "-", "x" * 40])
def test_a_group_has_a_scope(text: str) -> None:
    scope = names.group_scope(names.group_name(text))

    assert scope == f"group-{text}"
    assert names.scope_name(scope) == scope
    assert not names.is_secret(scope)


@pytest.mark.parametrize("text", [*HOSTILE, "a.b", "x" * 41])
def test_what_is_no_group_name_has_no_scope(text: str) -> None:
    with pytest.raises(ValueError, match="group name"):
        names.group_name(text)
    with pytest.raises(ValueError, match="group name"):
        names.group_scope(GroupName(text))
    with pytest.raises(ValueError, match="one of all, master-candidates"):
        names.scope_name(f"group-{text}")


@pytest.mark.parametrize("text", [*HOSTILE, "All", "all ", "group", "group-", "masters", "all.>"])
def test_only_known_scopes_are_scopes(text: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        names.scope_name(text)


def test_the_scopes_of_the_design_are_scopes_and_one_is_secret() -> None:
    scopes = [names.ALL, names.MASTER_CANDIDATES, names.VM_CAPABLE]

    assert [names.scope_name(scope) for scope in scopes] == scopes
    assert [scope for scope in scopes if names.is_secret(scope)] == [names.MASTER_CANDIDATES]


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "é" * 64])
def test_a_digest_is_64_lower_case_hexadecimal_digits(text: str) -> None:
    assert names.digest("0123456789abcdef" * 4)
    with pytest.raises(ValueError, match="digest"):
        names.digest(text)


@pytest.mark.parametrize(
    "text", ["/a", "/etc/ganeti/config.data", "/a b", "/é/日本", "/.hidden", "/...", "/a/..b", "/" + "x" * 255, "/*>$"]
)
def test_an_absolute_normalised_path_is_a_managed_path(text: str) -> None:
    assert names.managed_path(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not absolute"),
        ("etc/hosts", "not absolute"),
        ("/", "not normalised"),
        ("//etc", "not normalised"),
        ("/etc/", "not normalised"),
        ("/etc/./hosts", "not normalised"),
        ("/etc/../shadow", "not normalised"),
        ("/..", "not normalised"),
        ("/a\x00b", "control character"),
        ("/a\nb", "control character"),
        ("/a\x7f", "control character"),
        ("/a\x85", "control character"),
        ("/a\u2028", "control character"),
        ("/\udcff", "not valid UTF-8"),
        ("/" + "x" * 256, "component over 255"),
        ("/" + "é" * 128, "component over 255"),
        ("/x" * 513, "path of 1026 bytes, limit 1024"),
    ],
)
def test_any_other_path_is_refused_with_the_rule(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        names.managed_path(text)


@given(strategies.paths)
def test_a_managed_path_never_climbs(path: str) -> None:
    assert not {"", ".", ".."} & set(path[1:].split("/"))


def test_a_users_public_key_is_a_public_key() -> None:
    assert names.public_key(KEY) == KEY


def other_key(prefix: int) -> str:
    raw = bytes([prefix]) + bytes(32)
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode()


@pytest.mark.parametrize(
    "text",
    [
        *("", "U", KEY[:-1], KEY + "A", KEY.lower(), "S" + KEY[1:], KEY[:-1] + "!", KEY[:-1] + "1", "U" + "é" * 55),
        *(other_key(0), other_key(18 << 3)),
    ],
)
def test_what_is_no_users_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        names.public_key(text)


@given(st.integers(1, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_mistyped_key_is_refused(index: int, letter: str) -> None:
    """The server would refuse its whole configuration for it, and every node with it."""
    mistyped = KEY[:index] + letter + KEY[index + 1 :]
    if mistyped != KEY:
        with pytest.raises(ValueError, match="checksum"):
            names.public_key(mistyped)
