"""The wire, byte for byte. A difference here is a change of the wire: SPEC.md, section 7, says what goes with it.

`pytest --update-golden` writes the files anew; the diff then belongs into the commit that changes `codec.VERSION`, or
adds an optional field.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, messages
from protocol.messages import (
    Assignment,
    BlobWanted,
    FileEntry,
    FileError,
    FileEvent,
    Manifest,
    ManifestHead,
    NodeBell,
    Question,
    Refusals,
    ScopeBell,
    ScopeReceipt,
    Signed,
    Status,
    Succession,
    Withdrawal,
    WrappedKey,
)
from protocol.names import ALL, MASTER_CANDIDATES, Digest, NodeName, ScopeName, managed_path
from tests.support.values import a_public_key

GOLDEN = Path(__file__).parent.parent / "golden"

NODE = NodeName("node2.example.com")
DIGEST = Digest("0123456789abcdef" * 4)
ENTRY = FileEntry(
    path=managed_path("/etc/ganeti/süd.conf"),
    digest=DIGEST,
    size_bytes=70_000,
    mode=0o640,
    owner="root",
    group="gnt-daemons",
    generation=6,
    secret=True,
)
KEY = WrappedKey(scope=ALL, key="0123456789abcdef", box=b"\x00\xff")
WITHDRAWAL = Withdrawal(path=managed_path("/etc/old"), generation=5, purge=True)
RECEIPT = ScopeReceipt(scope=ALL, epoch=3, generation=7)
FAULT = FileError(path="/etc/ganeti/süd.conf", reason="is a directory", scope="all")
SIGNER = a_public_key("the master's signing key")
SUCCESSION = Succession(signer=SIGNER, former=a_public_key("the one before"), signature=bytes(range(64)))
REFUSALS = Refusals(count=2, last="wire version 9")

SAMPLES: tuple[Any, ...] = (
    ENTRY,
    WITHDRAWAL,
    Manifest(
        scope=ALL,
        epoch=3,
        generation=7,
        files=(ENTRY,),
        withdrawn=(WITHDRAWAL,),
        key=KEY.key,
        sealed=b"\x00\xff",
    ),
    KEY,
    ManifestHead(scope=ALL, epoch=3, generation=7, digest=DIGEST, size_bytes=300, inline=b"\x00\xff"),
    FileEvent(scope=ALL, epoch=3, generation=6, path=ENTRY.path, change="changed", entry=ENTRY),
    Assignment(
        node=NODE,
        epoch=3,
        serial=4,
        scopes=(ALL, MASTER_CANDIDATES),
        is_master=True,
        is_offline=True,
        keys=(KEY,),
    ),
    ScopeBell(scope=ScopeName("group-g_1"), epoch=3, generation=7, is_beat=True),
    NodeBell(node=NODE, epoch=3, serial=4, look="0123abcd"),
    RECEIPT,
    FAULT,
    REFUSALS,
    Status(
        node=NODE,
        boot="boot-1",
        sequence=2**40,
        serial=4,
        receipts=(RECEIPT,),
        holding=(ALL,),
        errors=(FAULT,),
        errors_count=1,
        refusals=REFUSALS,
        look="0123abcd",
        agent_version="0.1.0",
        os_report=DIGEST,
    ),
    BlobWanted(node=NODE, scope=ALL, digest=DIGEST),
    Question(body=b"\x00\xff", answer_key=bytes(range(32))),
    SUCCESSION,
    Signed(signer=SIGNER, signature=bytes(range(64)), body=b"\x00\xff", succession=(SUCCESSION,)),
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_encoded_as_ever(message: Any, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{type(message).__name__}.msgpack"
    if request.config.getoption("--update-golden"):
        file.write_bytes(codec.encode(message))

    assert codec.encode(message) == file.read_bytes()


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_an_old_message_is_still_understood(message: Any) -> None:
    data = (GOLDEN / f"{type(message).__name__}.msgpack").read_bytes()

    assert codec.decode(data, type(message)) == message
    assert codec.decode_any(data) == message


def test_there_is_one_golden_message_of_every_kind() -> None:
    kinds = {name for name, kind in vars(messages).items() if dataclasses.is_dataclass(kind)}

    assert {type(message).__name__ for message in SAMPLES} == kinds
    assert {file.name for file in GOLDEN.glob("*.msgpack")} == {f"{kind}.msgpack" for kind in kinds}


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_golden_message_has_something_in_every_field(message: Any) -> None:
    """A default would not show that the field is encoded at all."""
    for field in dataclasses.fields(message):
        assert getattr(message, field.name), field.name
