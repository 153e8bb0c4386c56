"""Every way that is known to read or forge on this bus what is not one's own: data, for whoever connects.

Each is a publication; a read asks for an answer on an inbox of the attacker's own. Subscriptions are a list of their
own. The ways are those by which the server, not the subject's name, decides: direct get in every form, consumers of
every kind, mirrors and sources, snapshots, key-value and object buckets, deputies that answer wherever one says, and
the headers that mean something to the server.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from protocol.names import ALL, MASTER_CANDIDATES
from protocol.permissions import OPS_PREFIX

SECRET_STREAMS = (f"FILES_{MASTER_CANDIDATES}", f"BLOBS_{MASTER_CANDIDATES}")
OPEN_STREAMS = (f"FILES_{ALL}", f"BLOBS_{ALL}", "ROLES", "STATUS", "OSREQ", "OSLOG")
SECRET_SUBJECTS = (
    f"mesh.manifest.{MASTER_CANDIDATES}",
    f"mesh.files.{MASTER_CANDIDATES}.>",
    f"mesh.blob.{MASTER_CANDIDATES}.>",
)
PREFIXES = ("$JS.API", OPS_PREFIX)


@dataclass(frozen=True)
class Route:
    """One publication. `reply` empty stands for an inbox of the attacker's own, so that an answer is seen."""

    subject: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    reply: str = ""


def _body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def direct_gets(blob: str) -> Iterator[Route]:
    """Direct get in every form, of the secret's streams and, for the secret's subjects, of every other stream."""
    wanted = (f"mesh.manifest.{MASTER_CANDIDATES}", blob, *SECRET_SUBJECTS, ">", "mesh.>")
    for prefix in PREFIXES:
        for stream in (*SECRET_STREAMS, *OPEN_STREAMS, "*", ">"):
            base = f"{prefix}.DIRECT.GET.{stream}"
            is_secret = stream in SECRET_STREAMS or stream in ("*", ">")
            if is_secret:
                yield from (Route(f"{base}.{subject}") for subject in (*wanted, "*"))
                yield from (Route(base, _body(seq=seq)) for seq in range(1, 6))
                yield Route(base, _body(seq=1, batch=1000))
                yield Route(base, _body(batch=100, start_time="2020-01-01T00:00:00Z"))
                yield Route(base)
            for subject in wanted:
                if not is_secret and subject in (">", "mesh.>"):
                    continue
                yield Route(base, _body(last_by_subj=subject))
                yield Route(base, _body(multi_last=[subject], batch=1000))
                yield Route(base, _body(seq=1, next_by_subj=subject, batch=1000))
                yield Route(f"{base}.{subject}", _body(last_by_subj=subject))


def api_reads(blob: str, inbox: str) -> Iterator[Route]:
    """JetStream's API: stored messages by number, consumers, copies of the whole stream."""
    for prefix in PREFIXES:
        for stream in SECRET_STREAMS:
            for seq in range(1, 4):
                yield Route(f"{prefix}.STREAM.MSG.GET.{stream}", _body(seq=seq))
            for subject in (blob, *SECRET_SUBJECTS):
                yield Route(f"{prefix}.STREAM.MSG.GET.{stream}", _body(last_by_subj=subject))
            yield Route(f"{prefix}.STREAM.SNAPSHOT.{stream}", _body(deliver_subject=f"{inbox}.snap"))
            yield from _consumers(prefix, stream, inbox)
            yield Route(f"{prefix}.STREAM.MSG.GET.{stream}", _body(seq=1, next_by_subj=">"))
            for name in ("STOLEN", "KV_stolen", "OBJ_stolen"):
                copy = {"name": name, "storage": "memory", "allow_direct": True}
                yield Route(f"{prefix}.STREAM.CREATE.{name}", _body(**copy, mirror={"name": stream}))
                yield Route(f"{prefix}.STREAM.CREATE.{name}", _body(**copy, sources=[{"name": stream}]))
                yield Route(f"{prefix}.DIRECT.GET.{name}", _body(seq=1, batch=1000))
                yield Route(f"{prefix}.STREAM.MSG.GET.{name}", _body(seq=1))
            republished = {"src": ">", "dest": f"{inbox}.>"}
            yield Route(
                f"{prefix}.STREAM.UPDATE.{stream}", _body(name=stream, subjects=["mesh.x"], republish=republished)
            )


def _consumers(prefix: str, stream: str, inbox: str) -> Iterator[Route]:
    push = {"deliver_subject": f"{inbox}.push", "deliver_policy": "all", "ack_policy": "none"}
    pull = {"deliver_policy": "all", "ack_policy": "explicit", "durable_name": "thief"}
    ordered = {**push, "flow_control": True, "idle_heartbeat": 10**9, "mem_storage": True, "num_replicas": 1}
    bound = {**push, "deliver_group": "thieves"}
    pinned = {**pull, "priority_groups": ["g"], "priority_policy": "pinned_client"}
    several = {**push, "filter_subjects": list(SECRET_SUBJECTS)}
    for config in (push, pull, several, ordered, bound, pinned):
        body = _body(stream_name=stream, config=config)
        yield Route(f"{prefix}.CONSUMER.CREATE.{stream}", body)
        yield Route(f"{prefix}.CONSUMER.CREATE.{stream}.thief", body)
        yield Route(f"{prefix}.CONSUMER.CREATE.{stream}.thief.mesh.blob.>", body)
        yield Route(f"{prefix}.CONSUMER.DURABLE.CREATE.{stream}.thief", body)
    for consumer in ("thief", "*", "candidate"):
        yield Route(f"{prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}", _body(batch=100, no_wait=True))
        yield Route(f"{prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}", _body(batch=9, group="g", priority=1))
        yield Route(f"{prefix}.CONSUMER.RESET.{stream}.{consumer}", _body(seq=1))
        yield Route(f"{prefix}.CONSUMER.UNPIN.{stream}.{consumer}", _body(group="g"))
        yield Route(f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0", b'+NXT {"batch":9}')


def subscriptions(victim: str) -> Iterator[str]:
    """What one could listen to."""
    yield from (">", "*", "*.>", "mesh.>", "mesh.*.>", "mesh.blob.>", "mesh.manifest.*", "mesh.files.*.>")
    yield from (f"mesh.files.{MASTER_CANDIDATES}.>", f"mesh.manifest.{MASTER_CANDIDATES}")
    yield from (f"mesh.blob.{MASTER_CANDIDATES}.>", "mesh.status.>", "mesh.ask.>", "mesh.api.>", "mesh.role.*")
    yield from ("mesh.rpc.>", f"mesh.rpc.{victim}.>", "mesh.os.>", "mesh.os.req.*", "_INBOX.>")
    yield from (f"_INBOX_{victim}.>", "_INBOX_master.>", "_INBOX_operator.>", "_INBOX_join.>", "_R_.>", "_GR_.>")
    yield from ("$SYS.>", "$SYS.ACCOUNT.>", "$JS.>", "$JS.EVENT.>", "$JS.ACK.>", "$JS.API.>", "$SRV.>", "$KV.>", "$O.>")


FORGED = (
    f"mesh.manifest.{ALL}",
    f"mesh.manifest.{MASTER_CANDIDATES}",
    f"mesh.files.{ALL}.etc/motd",
    f"mesh.files.{MASTER_CANDIDATES}.etc/secret",
    f"mesh.blob.{ALL}.{'0' * 64}.0",
    f"mesh.blob.{MASTER_CANDIDATES}.{'0' * 64}.0",
    "mesh.role.regular",
    "mesh.role.candidate",
    "mesh.os.req.regular",
    "mesh.os.req.candidate",
    "mesh.os.log.candidate.job1",
    "mesh.status.candidate",
    "mesh.ask.candidate.blob",
    f"mesh.bell.scope.{ALL}",
    "mesh.bell.node.candidate",
    "mesh.bell.cluster",
    "mesh.rpc.candidate.status",
    "mesh.rpc.candidate.take-trust",
    "mesh.rpc.candidate.use-key",
    "$KV.status.candidate",
    "$O.files.C.secret",
    "$JS.FC.FILES_all.x",
    "_INBOX_candidate.x",
    "_INBOX_master.x",
    "_INBOX_operator.x",
)
"""Subjects that the master, another node or nobody speaks on."""


def forgeries(marker: bytes, own: tuple[str, ...]) -> Iterator[Route]:
    """Say what is not one's own to say: outright, with the server's headers, and through those who answer."""
    for subject in FORGED:
        yield Route(subject, marker)
        yield Route(subject, marker, {"Nats-Rollup": "sub"})
        yield Route(subject, marker, {"Nats-Msg-Id": "1"})
    for subject in own:
        yield from _with_headers(subject, marker)
        yield from (Route(subject, marker, reply=target) for target in FORGED)
    for prefix in PREFIXES:
        asked = (f"DIRECT.GET.FILES_{ALL}", f"DIRECT.GET.FILES_{ALL}.mesh.manifest.{ALL}", "INFO", "STREAM.NAMES")
        asked += (f"STREAM.MSG.GET.FILES_{ALL}", f"STREAM.INFO.FILES_{ALL}", "DIRECT.GET.STATUS.mesh.status.regular")
        for verb in asked:
            body = _body(last_by_subj=f"mesh.manifest.{ALL}") if verb.startswith("STREAM.MSG") else b""
            yield from (Route(f"{prefix}.{verb}", body, reply=target) for target in FORGED)
        for stream in (f"FILES_{ALL}", "STATUS"):
            for target in FORGED:
                push = {"deliver_subject": target, "deliver_policy": "all", "ack_policy": "none"}
                yield Route(f"{prefix}.CONSUMER.CREATE.{stream}", _body(stream_name=stream, config=push))
    for verb in ("status", "node.list", "join"):
        yield from (Route(f"mesh.api.{verb}", reply=target) for target in FORGED)
    yield from (Route(f"$SRV.{verb}", reply=target) for verb in ("PING", "INFO") for target in FORGED)


def _with_headers(subject: str, marker: bytes) -> Iterator[Route]:
    for headers in (
        {"Nats-Rollup": "all"},
        {"Nats-Rollup": "sub"},
        {"Nats-Msg-Id": "1"},
        {"Nats-TTL": "1s"},
        {"Nats-Expected-Stream": f"FILES_{ALL}"},
        {"Nats-Trace-Dest": f"mesh.manifest.{ALL}"},
        {"Nats-Trace-Dest": "mesh.role.candidate", "Nats-Trace-Only": "true"},
        {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": f"mesh.manifest.{ALL}"},
        {
            "Nats-Schedule": "@at 2020-01-01T00:00:00Z",
            "Nats-Schedule-Source": f"mesh.manifest.{MASTER_CANDIDATES}",
            "Nats-Schedule-Target": subject,
        },
        {"Nats-Request-Info": '{"acc":"CTL","user":"master"}'},
        {"Nats-Batch-Id": "x", "Nats-Batch-Sequence": "1", "Nats-Batch-Commit": "1"},
        {"Nats-Incr": "1"},
    ):
        yield Route(subject, marker, headers)


def sabotage() -> Iterator[Route]:
    """Stop the service: delete, purge, change, seal, step down; and what only an operator may ask."""
    for prefix in PREFIXES:
        for stream in (*SECRET_STREAMS, *OPEN_STREAMS):
            for verb in ("PURGE", "DELETE", "LEADER.STEPDOWN", "PEER.REMOVE", "RESTORE"):
                yield Route(f"{prefix}.STREAM.{verb}.{stream}")
            yield Route(f"{prefix}.STREAM.MSG.DELETE.{stream}", _body(seq=1))
            yield Route(f"{prefix}.STREAM.UPDATE.{stream}", _body(name=stream, subjects=["mesh.gone"], max_msgs=1))
            yield Route(f"{prefix}.CONSUMER.PAUSE.{stream}.x", _body(pause_until="2099-01-01T00:00:00Z"))
        yield from (Route(f"{prefix}.STREAM.CREATE.FLOOD{n}", _body(name=f"FLOOD{n}")) for n in range(20))
        yield Route(f"{prefix}.ACCOUNT.PURGE.CTL")
        yield Route(f"{prefix}.META.LEADER.STEPDOWN")
    for verb in ("RELOAD", "KICK", "LDM", "CONNZ", "VARZ", "SUBSZ", "JSZ"):
        yield Route(f"$SYS.REQ.SERVER.PING.{verb}", b'{"cid":1}')
        yield Route(f"$SYS.REQ.SERVER.X.{verb}", b'{"cid":1}')
    yield from (Route(f"$SYS.REQ.ACCOUNT.{account}.CONNZ") for account in ("CTL", "NODES", "PING"))
    yield Route("$SYS.REQ.CLAIMS.UPDATE", b"x")
    for verb in ("node.remove", "node.modify", "file.remove", "group.add", "cluster.redist-conf", "access.add"):
        yield Route(f"mesh.api.{verb}")
