"""`cluster verify`'s part of the wire, byte for byte; as in `test_golden`, and with its `--update-golden`."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, verify_messages
from protocol.names import NodeName, managed_path
from protocol.verify_messages import (
    ECLUSTERFILECHECK,
    PATHS_MAX,
    ClusterVerified,
    ClusterVerify,
    FileSeen,
    FilesSeen,
    Finding,
    LookAtFiles,
    Variant,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "verify"

PATH = managed_path("/etc/ganeti/süd.conf")
SEEN = FileSeen(
    path=PATH,
    what="file",
    digest="0123456789abcdef" * 4,
    size_bytes=70_000,
    mode=0o640,
    owner="root",
    group="gnt-daemons",
    uid=998,
    gid=997,
    reason="is a directory",
)
VARIANT = Variant(what="0123456789abcdef" * 4, nodes=("node2", "node3"), nodes_count=2, is_published=True)
FINDING = Finding(
    problem="different",
    code=ECLUSTERFILECHECK,
    node="node2",
    path=PATH,
    nodes=("node2",),
    nodes_count=1,
    variants=(VARIANT,),
    variants_count=1,
    wanted="root:root 0640",
    reason="is a directory",
    is_warning=True,
)

SAMPLES: tuple[Any, ...] = (
    LookAtFiles(paths=(PATH,)),
    SEEN,
    FilesSeen(node=NodeName("node2.example.com"), files=(SEEN,)),
    VARIANT,
    FINDING,
    ClusterVerify(run="0123abcd", offset=7, group="rack1", node_timeout_s=2.5, patience_s=1.5),
    ClusterVerified(
        run="0123abcd",
        is_over=True,
        nodes=3,
        nodes_done=2,
        files=25,
        offline=("node4",),
        findings=(FINDING,),
        findings_total=8,
    ),
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_encoded_as_ever(message: Any, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{type(message).__name__}.msgpack"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(codec.encode(message))

    assert codec.encode(message) == file.read_bytes()


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_an_old_message_is_still_understood(message: Any) -> None:
    data = (GOLDEN / f"{type(message).__name__}.msgpack").read_bytes()

    assert codec.decode(data, type(message)) == message
    assert codec.decode_any(data) == message


def test_there_is_one_golden_message_of_every_kind() -> None:
    kinds = {name for name, kind in vars(verify_messages).items() if dataclasses.is_dataclass(kind)}

    assert {type(message).__name__ for message in SAMPLES} == kinds
    assert {file.name for file in GOLDEN.iterdir()} == {f"{kind}.msgpack" for kind in kinds}


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_golden_message_has_something_in_every_field(message: Any) -> None:
    """A default would not show that the field is encoded at all."""
    for field in dataclasses.fields(message):
        assert getattr(message, field.name), field.name


def test_a_request_for_more_paths_than_one_answer_holds_is_no_message() -> None:
    with pytest.raises(ValueError, match="301 paths to look at, limit 300"):
        LookAtFiles(paths=(PATH,) * (PATHS_MAX + 1))


@pytest.mark.parametrize("path", ["etc/x", "/etc/../x", "/etc/x\n"])
def test_a_path_that_is_none_is_no_message(path: Any) -> None:
    for kind in (lambda: LookAtFiles(paths=(path,)), lambda: FileSeen(path=path, what="absent")):
        with pytest.raises(ValueError, match="path"):
            kind()


def test_a_reason_has_a_limit() -> None:
    with pytest.raises(ValueError, match="401 characters, limit 400"):
        FileSeen(path=PATH, what="blocked", reason="x" * 401)
