"""Each noun's verbs: what they ask of the master, and what they print."""

import json
from dataclasses import replace

import pytest

from protocol.change_messages import ChangeRequest
from protocol.messages import FileEntry
from protocol.names import ALL, Digest, ManagedPath, NodeName
from protocol.operator_messages import (
    Changed,
    ClusterInfo,
    FileAdd,
    FileInfo,
    FileInfos,
    FileModify,
    FileQuery,
    FileRemove,
    GroupAdd,
    GroupInfo,
    GroupInfos,
    GroupRemove,
    NodeAdd,
    NodeInfos,
    NodeModify,
    NodeQuery,
    NodeRemove,
    RedistConf,
)
from tests.support.fake_operator_bus import ASKER, FakeOperatorBus, a_goal, a_master, a_node, a_wait_reply

KEY = "U" + "A" * 55


@pytest.mark.parametrize(
    ("line", "verb", "request_sent", "waits"),
    [
        ("cluster redist-conf", "cluster.redist-conf", RedistConf(), True),
        ("cluster redist-conf --no-wait", "cluster.redist-conf", RedistConf(), False),
        ("node add node4", "node.add", NodeAdd(name="node4"), False),
        ("node add node4 --wait", "node.add", NodeAdd(name="node4"), True),
        (f"node add n4.example.com -g rack1 --vm-capable NO --master-capable false --public-key {KEY}", "node.add",
         NodeAdd(name="n4.example.com", group="rack1", vm_capable=False, master_capable=False, public_key=KEY), False),
        ("node modify node2 -C yes", "node.modify", NodeModify(name="node2", master_candidate=True), True),
        ("node modify node2 --master-candidate=no --auto-promote", "node.modify",
         NodeModify(name="node2", master_candidate=False, auto_promote=True), True),
        ("node modify node2 -O True --no-wait", "node.modify", NodeModify(name="node2", offline=True), False),
        ("node modify node2 -D no --vm-capable yes --master-capable no", "node.modify",
         NodeModify(name="node2", drained=False, vm_capable=True, master_capable=False), True),
        (f"node modify node2 -g rack1 --public-key {KEY}", "node.modify",
         NodeModify(name="node2", group="rack1", public_key=KEY), True),
        ("node remove node2", "node.remove", NodeRemove(name="node2"), False),
        ("node remove node2 --keep-files", "node.remove", NodeRemove(name="node2", keep_files=True), False),
        ("group add rack1", "group.add", GroupAdd(name="rack1"), False),
        ("group remove rack1", "group.remove", GroupRemove(name="rack1"), False),
        ("file add /etc/x --scope all", "file.add", FileAdd(path="/etc/x", scope="all"), True),
        ("file add /etc/größe --scope group-rack1 --optional --allow-empty yes --no-wait", "file.add",
         FileAdd(path="/etc/größe", scope="group-rack1", optional=True, allow_empty=True), False),
        ("file modify /etc/x --allow-empty no", "file.modify", FileModify(path="/etc/x", allow_empty=False), True),
        ("file modify /etc/x --optional yes --scope vm-capable", "file.modify",
         FileModify(path="/etc/x", optional=True, scope="vm-capable"), True),
        ("file remove /etc/x", "file.remove", FileRemove(path="/etc/x"), True),
        ("file remove /etc/x --purge --no-wait", "file.remove", FileRemove(path="/etc/x", purge=True), False),
    ],
)  # fmt: skip
def test_a_change_asks_for_exactly_this(line: str, verb: str, request_sent: ChangeRequest, waits: bool) -> None:
    changed = Changed(goal=a_goal(), done=("first thing done", "second thing done"))
    bus = FakeOperatorBus(answers={verb: [changed], "wait": [a_wait_reply()]})

    result = bus.run(*line.split())

    assert result.exit_code == 0, result.stderr
    assert bus.requests(verb) == [replace(request_sent, by=ASKER)]
    assert bool(bus.requests("wait")) == waits
    assert result.stdout.splitlines()[:2] == ["first thing done", "second thing done"]


def test_node_list_is_a_table() -> None:
    nodes = (a_master(), a_node("node2", online=False, in_sync=False, errors_count=2, last_seen_s=8000.0))
    bus = FakeOperatorBus(answers={"node.list": [NodeInfos(nodes=nodes)]})

    assert bus.run("node", "list").stdout.splitlines() == [
        "Node   Role  Group    MasterCapable  VMCapable  Online  In sync  Errors",
        "node1  M     default  Y              Y          Y       Y             0",
        "node2  R     default  Y              Y          N, 2 h  N             2",
    ]
    assert bus.requests("node.list") == [NodeQuery()]


@pytest.mark.parametrize("verb", ["list", "info"])
def test_nodes_as_json_are_an_array(verb: str) -> None:
    bus = FakeOperatorBus(answers={"node.list": [NodeInfos(nodes=(a_master(), a_node()))]})

    assert [node["name"] for node in json.loads(bus.run("node", verb, "--json").stdout)] == ["node1", "node2"]


def test_node_info_shows_all_that_is_known() -> None:
    bus = FakeOperatorBus(answers={"node.list": [NodeInfos(nodes=(a_node("node2"), a_node("node3")))]})

    text = bus.run("node", "info", "node2", "node3").stdout

    assert bus.requests("node.list") == [NodeQuery(names=("node2", "node3"))]
    assert "Role             R (regular)\n" in text
    assert "Has generations  all 12, vm-capable 3\n" in text
    assert "\n\nNode name        node3\n" in text


def test_groups_as_a_table_and_as_json() -> None:
    groups = (
        GroupInfo(name="default", uuid="u", nodes=("node1", "node2")),
        GroupInfo(name="rack1", uuid="v", nodes=()),
    )
    bus = FakeOperatorBus(answers={"group.list": [GroupInfos(groups=groups)]})

    assert bus.run("group", "list").stdout.splitlines() == [
        "Group    Nodes  Names",
        "default      2  node1, node2",
        "rack1        0  -",
    ]
    assert json.loads(bus.run("group", "list", "--json").stdout)[0] == {
        "name": "default",
        "uuid": "u",
        "nodes": ["node1", "node2"],
    }


def a_file(path: str = "/etc/a b", *, published: bool = True, error: str = "", optional: bool = False) -> FileInfo:
    entry = FileEntry(
        path=ManagedPath(path), digest=Digest("0" * 64), size_bytes=1536, mode=0o640, owner="root", group="adm",
        generation=12,
    )  # fmt: skip
    return FileInfo(
        path=ManagedPath(path), scope=ALL, optional=optional, allow_empty=False, builtin=False,
        rule="list", reason="it is on the administrator's list",
        published=entry if published else None, error=error,
    )  # fmt: skip


def test_file_list_is_a_table() -> None:
    files = (
        a_file(),
        a_file("/etc/b", error="the source vanished"),
        a_file("/etc/c", published=False, optional=True),
        a_file("/etc/d", published=False),
    )
    bus = FakeOperatorBus(answers={"file.list": [FileInfos(files=files)]})

    assert bus.run("file", "list").stdout.splitlines() == [
        "Path      Scope     Size  Mode  Owner     Generation  State",
        "/etc/a b  all    1.5 KiB  0640  root:adm          12  ok",
        "/etc/b    all    1.5 KiB  0640  root:adm          12  the source vanished",
        "/etc/c    all          -  -     -                  -  absent, optional",
        "/etc/d    all          -  -     -                  -  not published yet",
    ]


def test_file_info_as_text_and_as_json() -> None:
    bus = FakeOperatorBus(answers={"file.list": [FileInfos(files=(a_file(),))]})

    text = bus.run("file", "info", "/etc/a b").stdout
    shown = json.loads(bus.run("file", "info", "/etc/a b", "--json").stdout)

    assert bus.requests("file.list") == [FileQuery(paths=("/etc/a b",))] * 2
    assert "Size             1.5 KiB (1536 bytes)\n" in text
    assert shown == [
        {
            "path": "/etc/a b",
            "scope": "all",
            "optional": False,
            "allow_empty": False,
            "secret": False,
            "builtin": False,
            "rule": "list",
            "reason": "it is on the administrator's list",
            "published": {
                "generation": 12,
                "digest": "0" * 64,
                "size_bytes": 1536,
                "mode": "0640",
                "owner": "root",
                "group": "adm",
            },
            "error": "",
        }
    ]


def test_cluster_info_as_text_and_as_json() -> None:
    info = ClusterInfo(
        name="demo", uuid="u", master=NodeName("node1"), epoch=2, candidate_pool_size=10, serial_no=5, nodes=3,
        enabled_hypervisors=("kvm", "xen-pvm"), hvparams={"kvm": {"vnc_tls": True, "acpi": False}},
        modify_etc_hosts=True, use_external_mip_script=False, file_hooks=True,
        master_candidates=("node1",), groups=("default",), files=9, generation=12, history=50,
        master_version="0.1.0", broker_version="2.15.1", ctime=0.0, mtime=0.0,
    )  # fmt: skip
    bus = FakeOperatorBus(answers={"cluster.info": [info]})

    text = bus.run("cluster", "info").stdout
    shown = json.loads(bus.run("cluster", "info", "--json").stdout)

    assert "Master                node1, epoch 2\n" in text
    assert "Generation            12, the last 50 are kept\n" in text
    assert "Enabled hypervisors   kvm, xen-pvm\n" in text
    assert "Parameters of kvm     acpi=False, vnc_tls=True\n" in text
    assert shown["hvparams"] == {"kvm": {"vnc_tls": True, "acpi": False}}
    assert (shown["name"], shown["candidate_pool_size"], shown["master_candidates"]) == ("demo", 10, ["node1"])
