"""os_catalog: OS definitions of many nodes, merged."""

import pytest

from master.core import os_catalog
from protocol.names import NodeName
from protocol.operator_os_messages import OsFinding
from protocol.os_messages import OsDefinition, OsParameter, OsReport
from protocol.os_names import OsVariant, os_parameter_name


def an_os(
    name: str = "tiny",
    *,
    versions: tuple[int, ...] = (20, 10),
    variants: tuple[str, ...] = (),
    parameters: tuple[tuple[str, str], ...] = (),
    problems: tuple[str, ...] = (),
    directory: str = "",
) -> OsDefinition:
    return OsDefinition(
        name=name,
        directory=directory or f"/srv/ganeti/os/{name}",
        api_versions=versions,
        variants=tuple(map(OsVariant, variants)),
        parameters=tuple(OsParameter(name=os_parameter_name(n), since=15, help=text) for n, text in parameters),
        problems=problems,
    )


def nodes(*lists: list[OsDefinition]) -> dict[NodeName, OsReport]:
    """One node per list: node1, node2, ..."""
    names = [NodeName(f"node{number}") for number in range(1, len(lists) + 1)]
    return {name: OsReport(node=name, definitions=tuple(one)) for name, one in zip(names, lists, strict=True)}


BROKEN = an_os(problems=("create is missing",))


@pytest.mark.parametrize(
    ("reports", "status", "usable_on"),
    [
        (nodes([an_os()], [an_os()]), "valid", ("node1", "node2")),
        (nodes([an_os()], []), "partial", ("node1",)),
        (nodes([an_os()], [BROKEN]), "partial", ("node1",)),
        (nodes([BROKEN], [BROKEN]), "invalid", ()),
        (nodes([BROKEN], []), "invalid", ()),
        (nodes([], []), "unknown", ()),
        (nodes(), "unknown", ()),
    ],
)
def test_an_os_is_valid_where_every_node_can_use_it(
    reports: dict[NodeName, OsReport], status: str, usable_on: tuple[str, ...]
) -> None:
    info = os_catalog.info("tiny", reports, {})

    assert (info.status, info.nodes) == (status, usable_on)


def test_a_usable_one_that_is_shadowed_does_not_help() -> None:
    assert os_catalog.status("tiny", nodes([BROKEN, an_os(directory="/usr/share/ganeti/os/tiny")])) == "invalid"


def test_what_all_agree_on_is_shown() -> None:
    """A parameter whose help differs is another parameter, as in Ganeti."""
    reports = nodes(
        [an_os(versions=(20, 15, 10), variants=("b", "a", "c"), parameters=(("x", "help"), ("y", "help")))],
        [an_os(versions=(15, 20), variants=("a", "b"), parameters=(("y", "other"), ("x", "help")))],
        [],
        [BROKEN],
    )

    info = os_catalog.info("tiny", reports, {})

    assert info.api_versions == (15, 20)
    assert info.variants == ("b", "a")
    assert [parameter.name for parameter in info.parameters] == ["x"]


def test_defaults_are_those_of_the_name_and_its_variants() -> None:
    """Ganeti does not show those of the bare name."""
    osparams = {"tiny": {"x": "1"}, "tiny+small": {"x": "2"}, "tinyer": {"x": "3"}}

    assert os_catalog.info("tiny", nodes(), osparams).defaults == {"tiny": {"x": "1"}, "tiny+small": {"x": "2"}}


def test_every_name_is_listed_once() -> None:
    assert os_catalog.names(nodes([an_os("b"), an_os("a")], [an_os("b"), BROKEN])) == ("a", "b", "tiny")


def test_nodes_with_the_same_are_one_finding() -> None:
    reports = nodes([], [BROKEN], [an_os()], [an_os(directory="/elsewhere/tiny")], [an_os(), an_os(directory="/usr/x")])

    diagnosis = os_catalog.diagnosis("tiny", reports)

    well = {"api_versions": (20, 10)}
    assert diagnosis.status == "partial"
    assert diagnosis.findings == (
        OsFinding(nodes=("node3", "node4"), directories=("/srv/ganeti/os/tiny", "/elsewhere/tiny"), **well),
        OsFinding(nodes=("node5",), directories=("/srv/ganeti/os/tiny",), shadowed=("/usr/x",), **well),
        OsFinding(nodes=("node2",), directories=("/srv/ganeti/os/tiny",), problems=BROKEN.problems, **well),
        OsFinding(nodes=("node1",)),
    )
