"""`gnt-mesh cluster verify`: Ganeti's lines, Ganeti's codes, Ganeti's exit code."""

import json
from dataclasses import replace

import pytest

from protocol.errors import Refused, Unavailable
from protocol.verify_messages import (
    ECLUSTERCERT,
    ECLUSTERFILECHECK,
    ENODEFILECHECK,
    ClusterVerified,
    ClusterVerify,
    Finding,
    Variant,
)
from tests.support.fake_operator_bus import FakeOperatorBus

PATH = "/etc/ganeti/x"
MISSING = Finding(problem="missing", code=ECLUSTERFILECHECK, path=PATH, nodes=("node2", "node3"), nodes_count=2)
SILENT = Finding(problem="silent", code=ENODEFILECHECK, node="node3", reason="no answer within 30 s")
DIFFERENT = Finding(
    problem="different",
    code=ECLUSTERFILECHECK,
    path=PATH,
    nodes_count=3,
    variants=(
        Variant(what="aa" * 32, nodes=("node1",), nodes_count=1, is_published=True),
        Variant(what="bb" * 32, nodes=("node2", "node3"), nodes_count=2),
    ),
    variants_count=2,
)
OVER = ClusterVerified(run="0123", is_over=True, nodes=3, nodes_done=3, files=25)


def a_reply(*findings: Finding, total: int = 0, **more: object) -> ClusterVerified:
    return replace(OVER, findings=findings, findings_total=total or len(findings), **more)  # type: ignore[arg-type]


def run(*replies: object, line: str = "") -> tuple[int, list[str], FakeOperatorBus]:
    bus = FakeOperatorBus(answers={"cluster.verify": list(replies)})
    result = bus.run("cluster", "verify", *line.split())
    return result.exit_code, result.stdout.splitlines(), bus


def test_all_well_says_so_and_ends_with_0() -> None:
    code, lines, _ = run(a_reply())

    assert code == 0
    assert lines == [
        "* Gathering data (3 nodes)",
        "* Verifying configuration file consistency",
        "25 files on 3 nodes: all is as it should be",
    ]


def test_a_certificate_is_a_warning_first_and_an_error_in_its_last_week() -> None:
    soon = Finding(problem="certificate", code=ECLUSTERCERT, reason="While verifying x: soon", is_warning=True)

    code, lines, _ = run(a_reply(soon))
    assert (code, lines[2]) == (0, "  - WARNING: cluster: While verifying x: soon")
    assert lines[-1] == "25 files on 3 nodes: 1 warning"
    code, lines, _ = run(a_reply(replace(soon, is_warning=False)), line="--error-codes")
    assert (code, lines[2]) == (1, "  - ERROR:ECLUSTERCERT:cluster:None:While verifying x: soon")


def test_findings_are_ganetis_lines_and_end_with_1() -> None:
    code, lines, _ = run(a_reply(SILENT, MISSING))

    assert code == 1
    assert lines[2:] == [
        "  - ERROR: node node3: Node did not return file checksum data: no answer within 30 s",
        "  - ERROR: cluster: File /etc/ganeti/x is missing from node(s) node2, node3",
        "25 files on 3 nodes: 2 errors",
    ]


def test_error_codes_are_for_scripts() -> None:
    """For cluster-wide findings the name is the word None, as Ganeti has it."""
    code, lines, _ = run(a_reply(SILENT, MISSING), line="--error-codes")

    assert code == 1
    assert lines[2:4] == [
        "  - ERROR:ENODEFILECHECK:node:node3:Node did not return file checksum data: no answer within 30 s",
        "  - ERROR:ECLUSTERFILECHECK:cluster:None:File /etc/ganeti/x is missing from node(s) node2, node3",
    ]


@pytest.mark.parametrize("option", ["-I", "--ignore-errors"])
def test_an_ignored_code_is_a_warning_and_no_reason_to_fail(option: str) -> None:
    code, lines, _ = run(a_reply(MISSING), line=f"{option} ECLUSTERFILECHECK --error-codes")

    assert code == 0
    assert lines[2].startswith("  - WARNING:ECLUSTERFILECHECK:cluster:None:")
    assert lines[3] == "25 files on 3 nodes: 1 warning"
    assert run(a_reply(MISSING, SILENT), line="-I ECLUSTERFILECHECK")[0] == 1
    assert run(a_reply(MISSING, SILENT), line="-I ECLUSTERFILECHECK -I ENODEFILECHECK")[0] == 0
    assert run(a_reply(), line="-I ENOSUCHCODE")[0] == 1


@pytest.mark.parametrize(
    ("finding", "sentence"),
    [
        (
            DIFFERENT,
            "cluster: File /etc/ganeti/x found with 2 different checksums "
            "(variant 1, as published, on node1; variant 2 on node2, node3)",
        ),
        (
            replace(DIFFERENT, variants=DIFFERENT.variants[1:], variants_count=1),
            "cluster: File /etc/ganeti/x found with 1 different checksums "
            "(variant 1 on node2, node3; none of them as published)",
        ),
        (
            replace(MISSING, problem="incomplete"),
            "cluster: File /etc/ganeti/x is optional, but it must exist on all or no nodes (not found on node2, node3)",
        ),
        (
            replace(MISSING, problem="unexpected"),
            "cluster: File /etc/ganeti/x should not exist on node(s) node2, node3",
        ),
        (
            replace(MISSING, problem="unreadable", reason="/etc/ganeti/x is a directory"),
            "cluster: File /etc/ganeti/x cannot be checked on node(s) node2, node3: /etc/ganeti/x is a directory",
        ),
        (
            Finding(
                problem="attributes",
                code=ECLUSTERFILECHECK,
                path=PATH,
                nodes_count=2,
                wanted="root:root 0640",
                variants=(
                    Variant(what="root:root 0600", nodes=("node2",), nodes_count=1),
                    Variant(what="daemon:root 0640", nodes=("node3",), nodes_count=1),
                ),
                variants_count=2,
            ),
            "cluster: File /etc/ganeti/x should be root:root 0640, but is root:root 0600 on node2; "
            "daemon:root 0640 on node3",
        ),
        (
            Finding(problem="source", code=ENODEFILECHECK, node="node1", path=PATH, reason="vanished from the master"),
            "node node1: File /etc/ganeti/x vanished from the master",
        ),
        (
            replace(MISSING, nodes_count=5000),
            "cluster: File /etc/ganeti/x is missing from node(s) node2, node3, 4998 more",
        ),
        (
            replace(SILENT, reason="two\nlines \x1b[31m"),
            r"node node3: Node did not return file checksum data: two lines \x1b[31m",
        ),
    ],
)
def test_each_problem_has_its_sentence(finding: Finding, sentence: str) -> None:
    assert run(a_reply(finding))[1][2] == f"  - ERROR: {sentence}"


def test_offline_nodes_are_noted_as_ganeti_notes_them() -> None:
    assert run(a_reply(offline=("node3", "node4")))[1][2:4] == [
        "* Other Notes",
        "  - NOTICE: 2 offline node(s) found.",
    ]


def test_json_has_every_fact() -> None:
    code, lines, _ = run(a_reply(SILENT, DIFFERENT, offline=("node4",)), line="--json -I ENODEFILECHECK")

    assert code == 1
    report = json.loads("\n".join(lines))
    assert (report["nodes"], report["files"], report["offline"]) == (3, 25, ["node4"])
    silent, different = report["findings"]
    assert silent == {
        "severity": "WARNING",
        "code": "ENODEFILECHECK",
        "item": "node",
        "name": "node3",
        "message": "Node did not return file checksum data: no answer within 30 s",
        "problem": "silent",
        "path": None,
        "nodes": [],
        "nodes_count": 0,
        "variants": [],
    }
    assert (different["severity"], different["item"], different["name"]) == ("ERROR", "cluster", None)
    assert different["variants"][0] == {"what": "aa" * 32, "published": True, "nodes": ["node1"], "nodes_count": 1}


def test_a_run_is_waited_for_and_read_page_by_page() -> None:
    waiting = replace(OVER, is_over=False, nodes_done=1)
    code, lines, bus = run(
        waiting,
        waiting,
        a_reply(MISSING, total=3),
        a_reply(DIFFERENT, total=3),
        a_reply(SILENT, total=3),
        line="-g rack1 --node-timeout 2",
    )

    assert (code, len(lines), lines[-1]) == (1, 6, "25 files on 3 nodes: 3 errors")
    asked = bus.requests("cluster.verify")
    first = ClusterVerify(group="rack1", node_timeout_s=2.0)
    again = replace(first, run="0123")
    assert asked == [first, again, again, replace(again, offset=1), replace(again, offset=2)]


@pytest.mark.parametrize("error", [Refused("node group rack9 does not exist"), Unavailable("no answer")])
def test_a_master_that_cannot_is_one_sentence_and_1(error: Exception) -> None:
    bus = FakeOperatorBus(answers={"cluster.verify": [error]})

    result = bus.run("cluster", "verify")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("gnt-mesh: ") and result.stderr.count("\n") == 1
