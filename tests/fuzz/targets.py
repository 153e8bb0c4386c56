"""What reads others' bytes. Each target takes an input and returns, or raises an error that is its answer to bad input.

Anything else is a finding: another exception, a hang, memory without bound.
"""

import base64
import contextlib
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from master.core import audit, from_ganeti, hook_answers
from master.core.cluster import from_text, new_cluster
from node_agent.core.job_text import harmless, last_line
from node_agent.core.os_definition import SCRIPTS, TEXTS, OsDirectory, judge
from node_agent.privileged.messages import Asked
from protocol import codec, join_token, names, subjects
from protocol.bus import Garbled
from protocol.errors import DecodeError, Refused
from protocol.messages import Manifest, ManifestHead, NodeBell, ScopeBell, Signed, Status, WrappedKey
from protocol.names import ALL, NodeName
from protocol.nats_bus.authorities import context_of
from protocol.os_messages import OsDefinition
from protocol.sealing import boxes, envelopes
from protocol.sealing.boxes import ContentBox, ScopeKey
from protocol.sealing.keyring import Keyring
from protocol.sealing.questions import Questioner
from protocol.sealing.signatures import Signer
from tests.support.memory_bus import seed_of
from tests.support.values import an_entry

Target = Callable[[bytes], object]

GOLDEN = Path(__file__).parent.parent / "golden"
NODE = NodeName("node1")
SIGNER = Signer(seed_of("master"))
TRUSTED = frozenset({SIGNER.public_key})
KEY = ScopeKey(bytes(range(32)))
BOX = ContentBox(KEY, an_entry())
CONFIG = new_cluster("mesh", nodes=[(NODE, "")], uuids=["c", "g", "n"], now=1.0, candidate_pool_size=1)
QUESTION = msgspec.msgpack.Decoder(Asked)


def every_message(data: bytes) -> None:
    """Whatever it is, it has a JSON form, and the same bytes again give the same message."""
    message = codec.decode_any(data)
    json.loads(codec.as_json(message))
    assert codec.decode(codec.encode(message), type(message)) == message


def a_manifest(data: bytes) -> None:
    for entry in codec.decode_manifest(data).files:
        subjects.file_event(ALL, entry.path)


def expected_kinds(data: bytes) -> None:
    for kind in (Manifest, ManifestHead, Status, ScopeBell, NodeBell, Signed, WrappedKey):
        with contextlib.suppress(DecodeError):
            codec.decode(data, kind)


def what_anybody_may_say(data: bytes) -> None:
    """On the subjects that the server does not keep others from: these never raise."""
    assert envelopes.open_status("mesh.status.node1", data)
    assert envelopes.open_question("mesh.ask.node1.blob", data)
    assert envelopes.open_scope_bell("mesh.bell.scope.all", data)
    assert isinstance(envelopes.open_node_bell("mesh.bell.node.node1", data, TRUSTED), Garbled), "it is not signed"


def what_the_master_might_say(data: bytes) -> None:
    """A master gone mad: signed, and still no node may fall over it."""
    keyring = Keyring(seed_of("node1"), TRUSTED)

    def signed(subject: str) -> bytes:
        return codec.encode(SIGNER.sign(subject, data))

    opening: tuple[Callable[[], object], ...] = (
        lambda: envelopes.open_assignment(signed("mesh.role.node1"), NODE, keyring),
        lambda: envelopes.open_manifest(
            head := envelopes.open_head(signed("mesh.manifest.all"), ALL, TRUSTED), head.inline
        ),
        lambda: envelopes.open_node_bell("mesh.bell.node.node1", signed("mesh.bell.node.node1"), TRUSTED),
        lambda: envelopes.open_question_for("mesh.rpc.node1.verify", signed("mesh.rpc.node1.verify"), TRUSTED),
    )
    for attempt in opening:
        with contextlib.suppress(DecodeError):
            attempt()


def unsigned(data: bytes) -> None:
    """Nothing that the fuzzer makes up carries the master's signature."""
    for subject in ("mesh.role.node1", "mesh.manifest.all"):
        with contextlib.suppress(DecodeError):
            envelopes.verified(subject, data, TRUSTED)
            raise AssertionError("a forged signature was believed")


def sealed(data: bytes) -> None:
    half = len(data) // 2
    attempts: tuple[Callable[[], object], ...] = (
        lambda: BOX.open(0, data, half),
        lambda: boxes.unwrap(WrappedKey(scope=ALL, key=KEY.id, box=data), seed_of("node1")),
        lambda: boxes.open_manifest(
            Manifest(scope=ALL, epoch=1, generation=1, files=(an_entry(),), key=KEY.id, sealed=data), KEY
        ),
        lambda: Questioner().open(data),
    )
    for attempt in attempts:
        with contextlib.suppress(DecodeError):
            attempt()
            raise AssertionError("something was opened that nobody has sealed")


def every_name(data: bytes) -> None:
    """A name that is let through is safe where it is put: into a subject, a permission, a path."""
    text = data.decode("utf-8", errors="surrogateescape")
    for check in (names.node_name, names.group_name, names.scope_name, names.digest, names.public_key):
        with contextlib.suppress(ValueError):
            token = str(check(text))
            assert not set(token) & set(" \t\n*>/\0"), token
    with contextlib.suppress(ValueError):
        key = subjects.path_key(names.managed_path(text))
        assert not set(key) & set(" \t\n*>\0") and ".." not in key and not key.startswith("."), key
    with contextlib.suppress(ValueError):
        subjects.node_of(text)


def config_data(data: bytes) -> None:
    from_text(data)


def ganeti_config(data: bytes) -> None:
    from_ganeti.is_ganetis(data)
    from_ganeti.read(data)


def os_definition(data: bytes) -> None:
    """Texts that somebody has put into an OS directory: whatever is in them, it becomes a report that can be sent."""
    texts = [text.decode("utf-8", errors="replace") for text in data.split(b"\0", len(TEXTS))]
    found = judge(OsDirectory("fuzz", "/srv/fuzz", dict(zip(TEXTS, texts, strict=False)), frozenset(SCRIPTS)))
    assert codec.decode(codec.encode(found), OsDefinition) == found


def hook_answer(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        for file in hook_answers.read_answer(data, CONFIG):
            assert file.scope in CONFIG.scopes()


def join_tokens(data: bytes) -> None:
    join_token.from_text(data.decode("utf-8", errors="surrogateescape"))
    join_token.from_text("gnt-mesh-join-1-" + base64.urlsafe_b64encode(data).decode().rstrip("="))


def helper_question(data: bytes) -> None:
    """What an agent that somebody has taken over may say to the helper, which is root."""
    with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
        QUESTION.decode(data)


def audit_log(data: bytes) -> None:
    """What somebody has done to the log on the disk: found, and never fatal."""
    audit.follow(data.splitlines(keepends=True))


def job_output(data: bytes) -> None:
    """What a script prints can do nothing to a terminal."""
    text = harmless(data) + last_line(data)
    assert all(unicodedata.category(letter) != "Cc" or letter in "\n\t" for letter in text), text


def authorities(data: bytes) -> None:
    """Certificates that the master names."""
    context_of(data.decode("utf-8", errors="replace"))


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        every_message,
        a_manifest,
        expected_kinds,
        what_anybody_may_say,
        what_the_master_might_say,
        unsigned,
        sealed,
        every_name,
        config_data,
        ganeti_config,
        os_definition,
        hook_answer,
        join_tokens,
        helper_question,
        audit_log,
        job_output,
        authorities,
    )
}

ANSWERS = (DecodeError, Refused)


def attempt(target: Target, data: bytes) -> None:
    """Try one input; raises only what is a finding."""
    with contextlib.suppress(*ANSWERS), contextlib.redirect_stdout(io.StringIO()):
        target(data)


def seeds() -> Iterator[bytes]:
    """Yield inputs that are well-formed, to begin with."""
    for path in sorted(GOLDEN.rglob("*.msgpack")):
        yield path.read_bytes()
    yield codec.encode(Signer(seed_of("another")).sign("mesh.manifest.all", b"body"))
    yield b'{"cluster": {"cluster_name": "x", "uuid": "u", "master_node": "m"}, "nodes": {}, "nodegroups": {}}'
    yield base64.b64encode(BOX.seal(0, b"content"))
    yield b'20\n\0default\n\0dhcp\n\0ip An address\n\0[ip]\ntype = "string"\n'
    yield b'{"path": "/etc/x", "scope": "all"}\n'
    yield b"/etc/ganeti/x"
    yield b"node1.example.com"
