"""The same facts as ASCII headers, for people with the plain `nats` command. No program of ours reads them."""

from urllib.parse import quote

from protocol.job_messages import JobBoard
from protocol.messages import Assignment, FileEvent, Manifest, NodeBell, ScopeBell, Status

Headers = dict[str, str]


def status_headers(status: Status) -> Headers:
    receipts = " ".join(f"{receipt.scope}={receipt.generation}" for receipt in status.receipts)
    return {
        "Mesh-Node": status.node,
        "Mesh-Receipts": receipts or "none",
        "Mesh-Errors": str(status.errors_count),
        "Mesh-Refused": str(status.refusals.count),
    }


def event_headers(event: FileEvent) -> Headers:
    headers = {
        "Mesh-Change": event.change,
        "Mesh-Path": quote(event.path),
        "Mesh-Generation": str(event.generation),
    }
    if event.entry:
        headers |= {
            "Mesh-Hash": event.entry.digest,
            "Mesh-Size": str(event.entry.size_bytes),
            "Mesh-Mode": f"{event.entry.mode:04o}",
            "Mesh-Owner": quote(f"{event.entry.owner}:{event.entry.group}", safe=":"),
        }
    return headers


def manifest_headers(manifest: Manifest) -> Headers:
    return {
        "Mesh-Scope": manifest.scope,
        "Mesh-Epoch": str(manifest.epoch),
        "Mesh-Generation": str(manifest.generation),
        "Mesh-Files": str(len(manifest.files)),
    }


def assignment_headers(assignment: Assignment) -> Headers:
    return {
        "Mesh-Node": assignment.node,
        "Mesh-Serial": str(assignment.serial),
        "Mesh-Scopes": " ".join(assignment.scopes),
    }


def board_headers(board: JobBoard) -> Headers:
    return {
        "Mesh-Node": board.node,
        "Mesh-Serial": str(board.serial),
        "Mesh-Jobs": str(len(board.orders)),
    }


def bell_headers(bell: ScopeBell | NodeBell) -> Headers:
    match bell:
        case ScopeBell():
            kind = "beat" if bell.is_beat else "generation"
            return {"Mesh-Bell": kind, "Mesh-Scope": bell.scope, "Mesh-Generation": str(bell.generation)}
        case NodeBell():
            return {"Mesh-Bell": "node", "Mesh-Node": bell.node, "Mesh-Serial": str(bell.serial)}
