"""The founding text (the Ganeti 2.1 design), Redistribute Config: one test per promise that is kept by now."""

import ast

from master.core.cluster import from_text, to_text
from master.core.operations import add_file
from protocol.names import ALL, MASTER_CANDIDATES
from protocol.operator_messages import FileAdd
from tests.support.scenario import CONFIG_DATA, Story
from tests.support.values import SURROUNDINGS, a_config

RAPI_PEM = "/var/lib/ganeti/rapi.pem"
RAPI_USERS = "/var/lib/ganeti/rapi_users"
XEND_CONFIG = "/etc/xen/xend-config.sxp"


def a_story(*commands: str) -> Story:
    """Return a mesh of a master, a candidate (node2) and a regular node (node3), after these commands."""
    story = Story()
    for command in (
        "start node1",
        "node add node2",
        "node add node3",
        "start node2",
        "start node3",
        "node modify node2 -C yes",
        *commands,
    ):
        story.do(command)
    return story


def files_of(story: Story, node: str) -> dict[str, str]:
    """Return what is on a node's disk, text by path."""
    lines = [line.split(" ", 2) for line in story.do(f"show {node}") if line.startswith("/")]
    return {path: text for path, _, text in lines}


def ssconf_of(story: Story, node: str) -> dict[str, str]:
    """Return the ssconf texts on a node's disk by key."""
    lines = [line.removeprefix("ssconf_").partition(" ") for line in story.do(f"ssconf {node}")]
    return {key: ast.literal_eval(text) for key, _, text in lines}


def test_the_updated_configuration_file_is_on_all_master_candidates() -> None:
    """Redistribute Config, Current State: "a copy of the updated configuration file to all master candidates"."""
    story = a_story("group add rack")

    assert files_of(story, "node2") == {CONFIG_DATA: "the cluster config"}
    assert files_of(story, "node3") == {}
    assert story.do("wait") == ["every node has it"]


def test_the_ssconf_files_are_on_all_nodes() -> None:
    """Redistribute Config, Current State: "and of the ssconf files to all nodes"."""
    story = a_story("node modify node3 -D yes")

    for node in ("node2", "node3"):
        files = ssconf_of(story, node)
        assert files["node_list"] == "node1\nnode2\nnode3\n"
        assert files["master_candidates"] == "node1\nnode2\n"
        assert files == ssconf_of(story, "node1")
    assert story.do("wait") == ["every node has it"]


def test_the_ssconf_files_follow_every_change_in_the_generation_of_the_configuration() -> None:
    """Redistribute Config, Current State: config and ssconf are one state; a reader never sees half of a change."""
    story = a_story()

    story.do("node modify node2 -O yes")

    assert ssconf_of(story, "node3")["offline_nodes"] == "node2\n"
    assert ssconf_of(story, "node3")["online_nodes"] == "node1\nnode3\n"
    generations = {story.do(f"manifest {scope}")[0] for scope in ("all", "master-candidates")}
    assert len(generations) == 1


def test_every_change_of_the_configuration_reaches_the_candidates_by_itself() -> None:
    """Redistribute Config, Current State: the copy is triggered by a command; here a change is enough."""
    story = a_story()
    before = story.do("manifest master-candidates")

    printed = story.do("group add rack")

    assert "node2: writes /var/lib/ganeti/config.data (the cluster config)" in printed
    assert story.do("manifest master-candidates") != before


def test_the_command_brings_back_whatever_was_lost_without_notice() -> None:
    """Redistribute Config, Current State: LURedistributeConfig copies again, also what nothing has changed in."""
    story = a_story("edit /etc/site.conf site", "file add /etc/site.conf all", "rot node3 /etc/site.conf rotten")
    assert files_of(story, "node3") == {"/etc/site.conf": "'rotten'"}

    story.do("redist-conf")

    assert files_of(story, "node3") == {"/etc/site.conf": "'site'"}
    assert story.do("wait") == ["every node has it"]


def test_the_rapi_files_are_kept_in_sync_on_the_master_candidates() -> None:
    """Redistribute Config, Current State: rapi.pem and rapi_users "(on master candidates)", and nowhere else."""
    story = a_story(f"edit {RAPI_PEM} key 0440", f"edit {RAPI_USERS} users 0640")

    assert files_of(story, "node2") == {
        CONFIG_DATA: "the cluster config",
        RAPI_PEM: "'key'",
        RAPI_USERS: "'users'",
    }
    assert files_of(story, "node3") == {}


def test_the_admin_ships_other_files_to_all_nodes() -> None:
    """Redistribute Config, Current State: "the global xend.conf file, and the network scripts to all nodes"."""
    story = a_story(
        f"edit {XEND_CONFIG} xend",
        f"file add {XEND_CONFIG} all",
        "edit /etc/xen/scripts/vif-custom script 0755",
        "file add /etc/xen/scripts/vif-custom all",
    )

    for node in ("node2", "node3"):
        assert (
            files_of(story, node).items() >= {XEND_CONFIG: "'xend'", "/etc/xen/scripts/vif-custom": "'script'"}.items()
        )
    assert "/etc/xen/scripts/vif-custom 0755 'script'" in story.do("show node3")


def test_the_list_of_files_is_part_of_the_cluster_object() -> None:
    """Redistribute Config, Proposed changes: "a global list of files on the cluster object"."""
    config = add_file(a_config(), FileAdd(path=XEND_CONFIG, scope=ALL), surroundings=SURROUNDINGS, now=1.0)

    (listed,) = from_text(to_text(config)).cluster.ancillary_files
    assert (listed.path, listed.scope) == (XEND_CONFIG, ALL)


def test_every_file_of_the_list_is_for_all_nodes_or_just_for_master_candidates() -> None:
    """Redistribute Config, Proposed changes: "whether a file must be shipped to all nodes or just […] candidates"."""
    for scope, on_node3 in ((ALL, True), (MASTER_CANDIDATES, False)):
        story = a_story("edit /etc/site.conf site", f"file add /etc/site.conf {scope}")

        assert "/etc/site.conf" in files_of(story, "node2")
        assert ("/etc/site.conf" in files_of(story, "node3")) == on_node3


def test_a_new_node_gets_the_files() -> None:
    """Redistribute Config, Proposed changes: the code "will be also shared […] with the AddNode […] LUs"."""
    story = a_story("edit /etc/site.conf site", "file add /etc/site.conf all", "node add node4", "start node4")

    assert files_of(story, "node4") == {"/etc/site.conf": "'site'"}


def test_a_new_master_candidate_gets_the_files_as_it_is_set() -> None:
    """Redistribute Config, Proposed changes: "automatically shipped to new master candidates as they are set"."""
    story = a_story(f"edit {RAPI_PEM} key")

    story.do("node modify node3 -C yes")

    assert files_of(story, "node3") == {CONFIG_DATA: "the cluster config", RAPI_PEM: "'key'"}
    assert story.do("wait") == ["every node has it"]


def test_a_candidate_that_is_promoted_to_keep_the_pool_full_gets_them_too() -> None:
    """Redistribute Config, Proposed changes: SetNodeParams may set other nodes than the one it names."""
    story = a_story(f"edit {RAPI_PEM} key", "node add node4", "start node4")
    story.do("pool size 2")

    story.do("node modify node2 -C no --auto-promote")

    assert RAPI_PEM not in files_of(story, "node2")
    assert RAPI_PEM in files_of(story, "node3")


VIF_BRIDGE = "/etc/xen/scripts/vif-bridge"
VNC_PASSWORD = "/etc/ganeti/vnc-cluster-password"


def test_the_vnc_passwords_are_kept_in_sync_for_xen_hvm_and_kvm_alike() -> None:
    """Redistribute Config, Current State: "to allow xen-hvm and kvm to use an equal system", and shipped again later.

    Not "once, during node add": a password that changes must not depend on where an instance is migrated to.
    """
    for hypervisor in ("xen-hvm", "kvm"):
        story = a_story(f"enable {hypervisor}", f"edit {VNC_PASSWORD} old 0600")
        assert files_of(story, "node3") == {VNC_PASSWORD: "'old'"}

        story.do(f"edit {VNC_PASSWORD} new 0600")

        assert files_of(story, "node3") == {VNC_PASSWORD: "'new'"}
        assert f"{VNC_PASSWORD} 0600 'new'" in story.do("show node2")


def test_every_enabled_hypervisor_is_asked_and_no_other() -> None:
    """Redistribute Config, Proposed changes: "to call every enabled hypervisor asking for a list of […] files"."""
    story = a_story(f"edit {VIF_BRIDGE} script 0755", "enable fake")
    assert files_of(story, "node3") == {}

    story.do("enable kvm xen-pvm")

    assert files_of(story, "node3") == {VIF_BRIDGE: "'script'"}
    story.do("enable kvm")
    assert files_of(story, "node3") == {}


def test_files_of_a_hypervisor_are_for_nodes_that_can_run_instances() -> None:
    """Redistribute Config, Current State: "hypervisor specific" files; the rest is SetNodeParams' shared code."""
    story = a_story(f"edit {VIF_BRIDGE} script 0755", "enable xen-pvm", "node modify node3 --vm-capable no")
    assert VIF_BRIDGE in files_of(story, "node2")
    assert files_of(story, "node3") == {}

    story.do("node modify node3 --vm-capable yes")

    assert files_of(story, "node3") == {VIF_BRIDGE: "'script'"}


def test_a_hook_calculates_the_list() -> None:
    """Redistribute Config, Proposed changes: "or a hook to calculate them", with "a way to specify" the scope."""
    story = a_story("edit /etc/site.conf site", "edit /etc/site.key key")

    story.do("hook site prints /etc/site.conf all /etc/site.key master-candidates")

    assert files_of(story, "node3") == {"/etc/site.conf": "'site'"}
    assert files_of(story, "node2").items() >= {"/etc/site.conf": "'site'", "/etc/site.key": "'key'"}.items()


def test_network_scripts_can_be_listed_by_one_pattern() -> None:
    """Redistribute Config, Current State: "the network scripts to all nodes", however many there are."""
    story = a_story("edit /etc/xen/scripts/vif-a a 0755", "enable fake", "file add /etc/xen/scripts/* all")

    story.do("edit /etc/xen/scripts/vif-b b 0755")

    assert files_of(story, "node3") == {"/etc/xen/scripts/vif-a": "'a'", "/etc/xen/scripts/vif-b": "'b'"}
