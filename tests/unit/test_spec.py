"""protocol/SPEC.md names every subject, verb, message and field: a second agent is written from that page alone."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from master.api import verbs
from protocol import codec, job_messages, key_messages, messages, os_messages, permissions, verify_messages
from protocol.access_messages import JoinReply, JoinRequest

SPEC = (Path(__file__).parents[2] / "protocol/SPEC.md").read_text()
OPERATORS_OWN = {"Variant", "Finding", "ClusterVerify", "ClusterVerified"} | {
    *("KeyInfo", "KeyInfos", "RenewCrypto", "RenewalQuery", "Authorities", "NotRenewed", "Renewed"),
}
"""What only operators and the master say; the page names the module that has its fields."""
FOR_AGENTS = [
    kind
    for module in (messages, os_messages, job_messages, verify_messages, key_messages)
    for name, kind in codec.KINDS.items()
    if kind.__module__ == module.__name__ and name not in OPERATORS_OWN
] + [JoinRequest, JoinReply]


class Anything:
    """Stands for a daemon that is asked nothing."""

    def __getattr__(self, name: str) -> "Anything":
        return self


def rows() -> list[list[str]]:
    """Every table's rows, as the texts of their cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in SPEC.splitlines() if line[:1] == "|"]


@pytest.mark.parametrize("kind", FOR_AGENTS, ids=lambda kind: kind.__name__)
def test_every_message_that_an_agent_meets_has_its_fields_there(kind: Any) -> None:
    told = [row[1] for row in rows() if kind.__name__ in re.split(r"[,; ]+", row[0]) and len(row) == 2]

    assert told, f"SPEC.md has no fields of {kind.__name__}"
    missing = [f.name for f in dataclasses.fields(kind) if not any(re.search(rf"\b{f.name}\b", text) for text in told)]
    assert missing == []


def test_every_verb_is_there_with_its_request_and_whether_it_only_looks() -> None:
    daemon: Any = Anything()
    there = {verb: request.__name__ for verb, (request, _) in verbs.handlers(daemon, daemon, version="").items()}
    said: dict[str, str] = {}
    looks: set[str] = set()
    for row in (row for row in rows() if len(row) == 4 and row[0].split(", ")[0] in there):
        asked = row[0].split(", ")
        requests = [word for word in re.split(r"[, ]+", row[1]) if word in codec.KINDS]
        said |= zip(asked, requests if len(requests) > 1 else requests * len(asked), strict=True)
        looks |= set(asked) if row[3] == "look" else set()

    assert said == there
    assert looks == permissions.READING_VERBS
