"""Every subject and stream name, and how names become subject tokens. The picture is in SPEC.md, section 2."""

import re
from typing import Final

from protocol.names import Digest, ManagedPath, NodeName, ScopeName, node_name, scope_name

STATUS_STREAM: Final = "STATUS"
ROLES_STREAM: Final = "ROLES"
OSREQ_STREAM: Final = "OSREQ"
OSLOG_STREAM: Final = "OSLOG"

STATUS_ALL: Final = "mesh.status.*"
ASK_ALL: Final = "mesh.ask.*.>"
API_PREFIX: Final = "mesh.api"
CLUSTER_BELL: Final = "mesh.bell.cluster"
"""Rung for operators whenever something in `status` may have changed. It carries nothing."""

DIRECT_GET: Final = "$JS.API.DIRECT.GET"

JOBS: Final = "jobs"
"""The last token of the subject on which a node speaks of its jobs."""

TAKE_TRUST: Final = "take-trust"
"""The last token of the subject on which the master tells a node whom to believe."""

_SAFE = re.compile(rb"[A-Za-z0-9_/-]")


def token(node: NodeName) -> str:
    """Return the node's subject token: dots are written as underscores, which no host name contains."""
    return node_name(node).replace(".", "_")


def node_of(subject_token: str) -> NodeName:
    """Return the node whose token this is; ValueError if it is nobody's."""
    return node_name(subject_token.replace("_", "."))


def path_key(path: ManagedPath) -> str:
    """Return a path as the readable tail of a subject: no leading `/`, what is unsafe as `=XX` per UTF-8 byte.

    A dot stays a dot where it separates two other characters of the key, and is `=2E` elsewhere. No two paths
    share a key.
    """
    raw = path[1:].encode("utf-8")
    parts = []
    for index, value in enumerate(raw):
        byte = raw[index : index + 1]
        neighbours = (raw[index - 1 : index] if index else b".") + (raw[index + 1 : index + 2] or b".")
        keep = _SAFE.fullmatch(byte) or (byte == b"." and b"." not in neighbours)
        parts.append(byte.decode() if keep else f"={value:02X}")
    return "".join(parts)


def files_stream(scope: ScopeName) -> str:
    return f"FILES_{scope_name(scope)}"


def blobs_stream(scope: ScopeName) -> str:
    return f"BLOBS_{scope_name(scope)}"


def file_event(scope: ScopeName, path: ManagedPath) -> str:
    return f"mesh.files.{scope}.{path_key(path)}"


def manifest(scope: ScopeName) -> str:
    return f"mesh.manifest.{scope}"


def blob(scope: ScopeName, content: Digest, chunk: int) -> str:
    return f"mesh.blob.{scope}.{content}.{chunk}"


def scope_bell(scope: ScopeName) -> str:
    return f"mesh.bell.scope.{scope}"


def node_bell(node: NodeName) -> str:
    return f"mesh.bell.node.{token(node)}"


def role(node: NodeName) -> str:
    return f"mesh.role.{token(node)}"


def status(node: NodeName) -> str:
    return f"mesh.status.{token(node)}"


def ask_blob(node: NodeName) -> str:
    return f"mesh.ask.{token(node)}.blob"


def ask_jobs(node: NodeName) -> str:
    return f"mesh.ask.{token(node)}.{JOBS}"


def os_request(node: NodeName) -> str:
    return f"mesh.os.req.{token(node)}"


def os_log(node: NodeName, job: str) -> str:
    return f"mesh.os.log.{token(node)}.{job}"


def rpc(node: NodeName, verb: str) -> str:
    return f"mesh.rpc.{token(node)}.{verb}"


def api(verb: str) -> str:
    return f"{API_PREFIX}.{verb}"


def inbox_prefix(node: NodeName) -> str:
    return f"_INBOX_{token(node)}"


def direct_get(stream: str, subject: str) -> str:
    """Return the request subject that gets the last message of one subject from one stream."""
    return f"{DIRECT_GET}.{stream}.{subject}"
