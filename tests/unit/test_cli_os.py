"""`gnt-mesh os ...`: what it asks of the master, and what it prints."""

import json

import pytest

from protocol.operator_messages import Changed
from protocol.operator_os_messages import OsDiagnoses, OsDiagnosis, OsFinding, OsInfo, OsInfos, OsModify, OsQuery
from protocol.os_messages import OsParameter
from protocol.os_names import os_parameter_name
from tests.support.fake_operator_bus import FakeOperatorBus, a_goal

SIZE = OsParameter(
    name=os_parameter_name("size"),
    since=15,
    help="how large",
    type="integer",
    choices=("1", "2"),
    default="2",
)
TINY = OsInfo(
    name="tiny",
    status="valid",
    api_versions=(20, 10),
    variants=("small", "large"),
    parameters=(SIZE,),
    defaults={"tiny": {"size": "1"}},
    nodes=("node1", "node2"),
)
HALF = OsInfo(name="half", status="partial", nodes=("node1",))
WELL = OsFinding(nodes=("node1",), directories=("/srv/ganeti/os/half",), api_versions=(10,), shadowed=("/usr/half",))
BAD = OsFinding(nodes=("node2",), directories=("/srv/ganeti/os/half",), problems=("create is missing",))


def test_list_shows_what_can_be_asked_for_everywhere() -> None:
    bus = FakeOperatorBus({"os.list": [OsInfos(infos=(HALF, TINY))]})

    result = bus.run("os", "list")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["Name", "tiny+small", "tiny+large"]
    assert result.stderr == "Not usable on every node: half; see: gnt-mesh os diagnose\n"
    assert bus.run("os", "list", "--no-headers").stdout.splitlines()[0].startswith("tiny+small")
    told = json.loads(bus.run("os", "list", "--json").stdout)
    assert [(one["name"], one["status"], one["full_names"]) for one in told] == [
        ("half", "partial", ["half"]),
        ("tiny", "valid", ["tiny+small", "tiny+large"]),
    ]


@pytest.mark.parametrize("verb", ["list", "info", "diagnose"])
def test_where_there_is_nothing_it_is_said_where_to_put_it(verb: str) -> None:
    bus = FakeOperatorBus({"os.list": [OsInfos(infos=())], "os.diagnose": [OsDiagnoses(diagnoses=())]})

    result = bus.run("os", verb)

    assert (result.exit_code, result.stdout.strip()) == (0, "Name  API  Parameters  Nodes" if verb == "list" else "")
    assert "below os_search_path of each node" in result.stderr


def test_info_shows_all_that_is_declared() -> None:
    bus = FakeOperatorBus({"os.list": [OsInfos(infos=(TINY,))]})

    text = bus.run("os", "info", "tiny").stdout

    assert bus.requests("os.list") == [OsQuery(names=("tiny",))]
    for expected in ("10, 20", "how large; integer; one of 1, 2; default '2'", "Default of tiny", "size=1"):
        assert expected in text


@pytest.mark.parametrize(("findings", "status", "code"), [((WELL,), "valid", 0), ((WELL, BAD), "partial", 1)])
def test_diagnose_says_what_is_wrong_and_where(findings: tuple[OsFinding, ...], status: str, code: int) -> None:
    diagnosis = OsDiagnosis(name="half", status=status, findings=findings)  # type: ignore[arg-type]
    bus = FakeOperatorBus({"os.diagnose": [OsDiagnoses(diagnoses=(diagnosis,), silent=("node3",))]})

    result = bus.run("os", "diagnose")

    assert result.exit_code == code
    assert f"half: {status}" in result.stdout
    assert ("create is missing" in result.stdout) == (BAD in findings)
    assert "not used, because it comes later in the search path: /usr/half" in result.stdout
    assert "No answer from  node3" in result.stdout
    told = json.loads(bus.run("os", "diagnose", "--json").stdout)
    assert [one["valid"] for one in told["os"][0]["findings"]] == [finding is WELL for finding in findings]


def test_diagnose_says_who_does_not_have_it_and_what_is_wrong_with_a_search_path() -> None:
    diagnosis = OsDiagnosis(name="half", status="partial", findings=(WELL, OsFinding(nodes=("node9",))))
    found = OsDiagnoses(diagnoses=(diagnosis,), problems={"node2": ("/srv/ganeti/os: Permission denied",)})

    result = FakeOperatorBus({"os.diagnose": [found]}).run("os", "diagnose")

    assert result.exit_code == 1
    assert "node9  does not have it" in result.stdout
    assert "Search path of node2  /srv/ganeti/os: Permission denied" in result.stdout


def test_modify_takes_parameters_as_ganeti_does() -> None:
    bus = FakeOperatorBus({"os.modify": [Changed(goal=a_goal(), done=("Modified OS tiny",))]})

    result = bus.run("os", "modify", "tiny+small", "-O", "a=1,b=x\\,y", "-O", "c=p=q")

    assert (result.exit_code, result.stdout) == (0, "Modified OS tiny\n")
    (request,) = bus.requests("os.modify")
    assert isinstance(request, OsModify)
    assert (request.name, request.parameters) == ("tiny+small", {"a": "1", "b": "x,y", "c": "p=q"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("size", "'size' has no value; write NAME=VALUE, values are strings"),
        ("no_size", "has no value"),
        ("-size", "has no value"),
        ("a=1,a=2", "OS parameter a is given twice"),
        ("=1", "OS parameter ''"),
        ("a b=1", "OS parameter 'a b'"),
        ("a=x\ty", "OS parameter a: character 2 of its value is not a printable one"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_before_anybody_is_asked(value: str, reason: str) -> None:
    """Ganeti takes `-O key` for true, `-O no_key` for false and `-O -key` for null; here a value is a string."""
    bus = FakeOperatorBus({})

    result = bus.run("os", "modify", "tiny", "-O", value)

    assert result.exit_code == 1
    assert reason in result.stderr
    assert bus.asked == []
