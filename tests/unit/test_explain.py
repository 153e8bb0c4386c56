"""master/core/explain.py: the sentences that say why a file is on a node, or is not."""

from dataclasses import replace

import pytest

from master.core.cluster import ClusterConfig
from master.core.explain import Explanation, explain
from master.core.plan import Source
from protocol.messages import FileEntry
from protocol.names import ALL, MASTER_CANDIDATES, VM_CAPABLE, ManagedPath, ScopeName
from tests.support.values import PATH, SURROUNDINGS, a_config, a_file, a_node, a_source, an_entry

ABSENT = Source("absent")


def explained(
    config: ClusterConfig,
    path: str = PATH,
    node: str = "node2",
    *,
    source: Source | None = None,
    published: FileEntry | None = None,
    **surroundings: object,
) -> Explanation:
    return explain(
        config,
        replace(SURROUNDINGS, **surroundings),  # type: ignore[arg-type]
        ManagedPath(path),
        config.node(node),
        source=source or a_source(),
        published=published,
    )


@pytest.mark.parametrize(
    ("scope", "node", "goes", "membership"),
    [
        (ALL, a_node(), True, "node2 is in it, as every node is."),
        (MASTER_CANDIDATES, a_node(role="C"), True, "node2 is in it: it is a master candidate."),
        (MASTER_CANDIDATES, a_node(), False, "node2 is not in it: it is a regular node."),
        (MASTER_CANDIDATES, a_node(role="D"), False, "node2 is not in it: it is drained."),
        (MASTER_CANDIDATES, a_node(role="O"), False, "node2 is not in it: it is offline."),
        (VM_CAPABLE, a_node(), True, "node2 is in it: it is vm-capable."),
        (VM_CAPABLE, a_node(vm_capable=False), False, "node2 is not in it: it is not vm-capable."),
        (ScopeName("group-rack"), a_node(group="rack"), True, "node2 is in it: its node group is rack."),
        (ScopeName("group-rack"), a_node(), False, "node2 is not in it: its node group is default."),
    ],
)
def test_every_scope_says_why_a_node_is_in_it_or_not(
    scope: ScopeName, node: object, goes: bool, membership: str
) -> None:
    config = a_config(node, groups=("default", "rack"), files=[a_file(scope=scope)])  # type: ignore[arg-type]

    answer = explained(config)

    assert (answer.goes, answer.scope, answer.rule) == (goes, scope, "list")
    assert answer.lines[:3] == (
        f"{PATH} {'goes' if goes else 'does not go'} to node2.",
        f"It is for {scope}, because it is on the administrator's list.",
        membership,
    )


def test_what_is_on_the_master_and_what_is_published_is_said() -> None:
    config = a_config(a_node(role="O"), files=[a_file()])
    published = an_entry(generation=7)

    assert explained(config, source=ABSENT).lines[3:] == (
        "It does not exist on the master: nothing is shipped yet.",
        "node2 is offline: it gets the file when it is back.",
    )
    assert explained(config, source=ABSENT, published=published).lines[3:5] == (
        "The nodes are to have generation 7 of it.",
        "It does not exist on the master: what is published stays.",
    )
    unusable = Source("unusable", reason="is a symbolic link on the master")
    assert explained(config, source=unusable).lines[3] == "The master's own is a symbolic link on the master."


def test_a_second_claim_that_was_turned_down_is_said() -> None:
    config = a_config(a_node(), files=[a_file("/etc/ganeti/kvm-vif-bridge", ALL)])

    (also,) = [line for line in explained(config, "/etc/ganeti/kvm-vif-bridge").lines if line.startswith("Also")]

    assert "cannot be in two scopes" in also


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/xen/xl.conf", "Hypervisor xen-pvm would have it shipped to vm-capable, but it is not enabled."),
        ("/etc/hosts", "It would be shipped to all if modify_etc_hosts were on."),
        ("/etc/shadow", "It is never shipped, whoever names it: it holds the accounts of one machine."),
        ("/etc/site/x", "/etc/site/* on the list selects it, for vm-capable, but it is not there on the master."),
    ],
)
def test_what_no_rule_names_says_what_would_name_it(path: str, line: str) -> None:
    config = a_config(a_node(), files=[a_file("/etc/site/*", VM_CAPABLE)])

    answer = explained(config, path, source=ABSENT)

    assert (answer.goes, answer.scope, answer.rule) == (False, "", "")
    assert answer.lines[0] == f"{path} does not go to node2: no rule names it."
    assert line in answer.lines


def test_what_nothing_has_to_do_with_is_one_sentence() -> None:
    assert len(explained(a_config(a_node()), "/etc/nothing").lines) == 1
