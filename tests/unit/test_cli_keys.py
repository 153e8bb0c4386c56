"""`gnt-mesh cluster renew-crypto`: begun, followed while the master begins again, and told as it ended."""

import json

import pytest

from protocol.errors import Unavailable
from protocol.key_messages import NotRenewed, RenewCrypto, Renewed
from tests.support.fake_operator_bus import FakeOperatorBus

BEGUN = Renewed(run="r1", is_over=False)
DONE = Renewed(run="r1", is_over=True, done=("The authority is a new one.",))
ABSENT = NotRenewed(node="node3", reason="its agent is not connected")


def renewing(*followed: object) -> FakeOperatorBus:
    return FakeOperatorBus(answers={"keys.renew": [BEGUN], "keys.follow": list(followed)})


def test_it_is_followed_to_its_end_also_while_the_master_does_not_answer() -> None:
    bus = renewing(BEGUN, Unavailable("nobody answers"), DONE)
    result = bus.run("cluster", "renew-crypto")
    assert (result.exit_code, result.stdout) == (0, "The authority is a new one.\n")


@pytest.mark.parametrize(
    ("failed", "code", "says"),
    [
        (ABSENT, 2, "gnt-mesh: 1 node could not be given all that is new\n  node3: its agent is not connected\n"),
        (NotRenewed(node="", reason="ca.key: cannot be read"), 1, "gnt-mesh: ca.key: cannot be read\n"),
    ],
)
def test_what_could_not_be_renewed_is_named(failed: NotRenewed, code: int, says: str) -> None:
    result = renewing(Renewed(run="r1", is_over=True, failed=(failed,))).run("cluster", "renew-crypto")
    assert (result.exit_code, result.stderr) == (code, says)


def test_one_that_takes_too_long_is_left_to_itself() -> None:
    result = renewing(Unavailable("nobody answers")).run("cluster", "renew-crypto")
    assert result.exit_code == 2 and "goes on by itself" in result.stderr


@pytest.mark.parametrize(
    ("line", "nodes", "parts"),
    [
        ("", (), ()),
        ("--node node2 --node node3", ("node2", "node3"), ()),
        ("--new-cluster-certificate --new-node-certificates", (), ("authority", "nodes")),
        ("--new-server-certificate --new-master-keys --new-signing-key", (), ("server", "master", "signing")),
        ("--new-scope-keys", (), ("scopes",)),
    ],
)
def test_a_part_is_asked_for_by_its_flag(line: str, nodes: tuple[str, ...], parts: tuple[str, ...]) -> None:
    bus = renewing(DONE)
    assert json.loads(bus.run("cluster", "renew-crypto", "--json", *line.split()).stdout)["is_over"] is True
    (request,) = bus.requests("keys.renew")
    assert isinstance(request, RenewCrypto)
    assert (request.nodes, set(request.parts)) == (nodes, set(parts))


def test_nodes_and_parts_are_not_mixed() -> None:
    result = renewing(DONE).run("cluster", "renew-crypto", "--node", "node2", "--new-signing-key")
    assert result.exit_code == 1 and "give it without the other options" in result.stderr
