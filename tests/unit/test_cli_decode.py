"""`gnt-mesh decode`: what `nats ... --translate` shows."""

import dataclasses
import json

import pytest
from click.testing import CliRunner, Result

from master.cli.app import root
from protocol import codec
from protocol.messages import FileEntry, Manifest, ManifestHead, NodeBell
from protocol.names import ALL, Digest, ManagedPath, NodeName
from protocol.sealing.signatures import Signer
from tests.support.memory_bus import seed_of


def decode(data: bytes, *flags: str) -> Result:
    return CliRunner().invoke(root, ["decode", *flags], input=data)


def test_a_message_is_shown_with_its_kind() -> None:
    result = decode(codec.encode(NodeBell(node=NodeName("node1"), epoch=1, serial=3)))

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"kind": "NodeBell", "node": "node1", "epoch": 1, "serial": 3, "look": ""}
    assert result.stdout.count("\n") > 1


def test_compact_is_one_line() -> None:
    result = decode(codec.encode(NodeBell(node=NodeName("node1"), epoch=1, serial=3)), "--compact")

    assert result.stdout.count("\n") == 1


def test_a_manifest_inside_its_head_is_shown_as_such() -> None:
    """It is what a person looks for who asks for the last message on mesh.manifest.all."""
    entry = FileEntry(
        path=ManagedPath("/etc/größe"), digest=Digest("0" * 64), size_bytes=1, mode=0o644, owner="root", group="root",
        generation=1,
    )  # fmt: skip
    manifest = codec.encode(Manifest(scope=ALL, epoch=1, generation=1, files=(entry,)))
    head = ManifestHead(
        scope=ALL, epoch=1, generation=1, digest=Digest("0" * 64), size_bytes=len(manifest), inline=manifest
    )

    shown = json.loads(decode(codec.encode(head)).stdout)

    assert shown["inline"]["files"][0]["path"] == "/etc/größe"


def test_a_signed_message_is_shown_with_who_claims_to_have_signed_it() -> None:
    signer = Signer(seed_of("master"))
    bell = NodeBell(node=NodeName("node1"), epoch=1, serial=3)
    signed = signer.sign("mesh.bell.node.node1", codec.encode(bell))

    shown = json.loads(decode(codec.encode(signed)).stdout)

    assert (shown["kind"], shown["serial"], shown["signed_by"]) == ("NodeBell", 3, signer.public_key)


def test_signed_within_signed_is_not_unpacked_without_end() -> None:
    signed = Signer(seed_of("master")).sign("x", b"")
    for _ in range(2000):
        signed = dataclasses.replace(signed, body=codec.encode(signed))

    assert json.loads(decode(codec.encode(signed)).stdout)["kind"] == "Signed"


def test_an_inline_manifest_that_is_none_stays_as_it_came() -> None:
    head = ManifestHead(scope=ALL, epoch=1, generation=1, digest=Digest("0" * 64), size_bytes=3, inline=b"abc")

    assert json.loads(decode(codec.encode(head)).stdout)["inline"] == "YWJj"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"plain text",
        b"\x80",
        b"\x93\x01\x02\x03",
        b"\x81\xa1v\x01" * 2,
        bytes(codec.MESSAGE_BYTES_MAX + 9),
    ],
)
def test_what_is_no_message_is_one_json_object_and_exit_code_1(data: bytes) -> None:
    result = decode(data)

    assert result.exit_code == 1
    assert list(json.loads(result.stdout)) == ["error"]
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""
