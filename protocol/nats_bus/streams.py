"""The JetStream layout: a stream per scope and kind, and the raw requests that nats-py has no words for.

Every stream here is derived from the master's disk and may be deleted while the mesh runs (design, D1).
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any

from protocol import subjects
from protocol.errors import Unavailable
from protocol.names import ScopeName
from protocol.nats_bus.connection import Connection

Message = tuple[str, bytes, dict[str, str]]
"""Subject, payload, headers."""

API = "$JS.API"


def layout(scopes: Sequence[ScopeName]) -> list[dict[str, Any]]:
    """Return the configuration of every stream of the mesh, in the server's own words."""
    scoped = [
        stream
        for scope in scopes
        for stream in (
            _stream(
                subjects.files_stream(scope),
                [f"mesh.files.{scope}.>", subjects.manifest(scope)],
                f"file-change events and the manifest of scope {scope}",
                allow_atomic=True,
            ),
            _stream(subjects.blobs_stream(scope), [f"mesh.blob.{scope}.>"], f"contents of scope {scope}"),
        )
    ]
    return [
        *scoped,
        _stream(subjects.ROLES_STREAM, ["mesh.role.*"], "which scopes each node is in"),
        _stream(subjects.STATUS_STREAM, ["mesh.status.*"], "presence and receipts of each node", no_ack=True),
        _stream(subjects.OSREQ_STREAM, ["mesh.os.req.*"], "OS jobs for one node"),
        _stream(
            subjects.OSLOG_STREAM,
            ["mesh.os.log.*.>"],
            "output of OS jobs",
            no_ack=True,
            max_msgs_per_subject=-1,
            max_bytes=256 * 1024 * 1024,
        ),
    ]


def _stream(name: str, over: list[str], description: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "subjects": over,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "num_replicas": 1,
        "allow_direct": True,
        "allow_rollup_hdrs": False,
        **more,
    }


async def call(connection: Connection, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer of the JetStream API; Unavailable with the server's sentence if it refuses."""
    message = await connection.request(f"{API}.{verb}", json.dumps(body).encode() if body else b"")
    answer: dict[str, Any] = json.loads(message.data)
    if "error" in answer:
        raise Unavailable(f"{verb}: {answer['error'].get('description')} ({answer['error'].get('err_code')})")
    return answer


async def names(connection: Connection) -> set[str]:
    """Return the names of all streams of the account."""
    found: set[str] = set()
    while True:
        answer = await call(connection, "STREAM.NAMES", {"offset": len(found)})
        found.update(answer.get("streams") or ())
        if not answer.get("streams") or len(found) >= answer["total"]:
            return found


async def ensure(connection: Connection, scopes: Sequence[ScopeName], *, afresh: bool) -> None:
    """Create what is missing, update what differs; with `afresh` delete the derived ones first.

    Measured on 2.15.1 with the store's files deleted below the running server: direct gets, STREAM.INFO and
    acknowledgements of small writes go on as if nothing had happened, until the next block is needed; then writes of
    that stream are not answered any more. Only an update tells: it cannot write the stream's description ("no such
    file", 10069). Deleting and creating heals it without a restart; after a restart all of it is gone.
    """
    existing = await names(connection)
    for stream in layout(scopes):
        name = stream["name"]
        if afresh and name in existing:
            await delete(connection, name)
            existing.discard(name)
        await call(connection, f"STREAM.{'UPDATE' if name in existing else 'CREATE'}.{name}", stream)


async def delete(connection: Connection, name: str) -> None:
    """Delete a stream; one that does not exist is deleted already."""
    try:
        await call(connection, f"STREAM.DELETE.{name}")
    except Unavailable as error:
        if "(10059)" not in str(error):
            raise


async def stored_subjects(connection: Connection, stream: str, subject_filter: str) -> dict[str, int]:
    """Return every subject of a stream that the filter matches, with its number of messages."""
    found: dict[str, int] = {}
    while True:
        body = {"subjects_filter": subject_filter, "offset": len(found)}
        state = (await call(connection, f"STREAM.INFO.{stream}", body)).get("state", {})
        page = state.get("subjects") or {}
        found |= page
        if not page or len(found) >= state.get("num_subjects", 0):
            return found


async def store(connection: Connection, message: Message) -> None:
    """Store one message and return when the server has acknowledged it."""
    subject, payload, headers = message
    answer = json.loads((await connection.request(subject, payload, headers or None)).data)
    if "error" in answer:
        raise Unavailable(f"{subject}: {answer['error'].get('description')}")


async def store_batch(connection: Connection, messages: Sequence[Message]) -> None:
    """Store up to 1000 messages of one stream, all or none."""
    batch = secrets.token_hex(11)
    for sequence, (subject, payload, headers) in enumerate(messages, start=1):
        marked = {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(sequence)}
        if sequence < len(messages):
            await connection.publish(subject, payload, marked)
        else:
            await store(connection, (subject, payload, {**marked, "Nats-Batch-Commit": "1"}))


async def purge(connection: Connection, stream: str, subject: str) -> None:
    """Remove every message of a stream whose subject matches."""
    await call(connection, f"STREAM.PURGE.{stream}", {"filter": subject})
