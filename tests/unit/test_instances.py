"""instances, os_jobs: records of instances, what may change of them, and the jobs that go with it."""

from dataclasses import replace
from typing import Any

import pytest

from master.core import instances, operations
from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.os_jobs import os_job, transfers_of
from protocol.errors import Refused
from protocol.instance_messages import (
    DiskWanted,
    InstanceAdd,
    InstanceModify,
    InstanceReinstall,
    InstanceRename,
    JobWishes,
    NicWanted,
)
from protocol.operator_messages import NodeModify, NodeRemove
from protocol.os_messages import Confidential, OsDefinition, OsParameter
from protocol.os_names import JobId, OsVariant, os_parameter_name
from tests.support.values import a_config, a_node

JOB = JobWishes(id=JobId("job1"))


def an_os(name: str = "tiny", *parameters: str, variants: tuple[str, ...] = ()) -> OsDefinition:
    declared = tuple(OsParameter(name=os_parameter_name(one), since=15) for one in parameters)
    return OsDefinition(
        name=name,
        directory=f"/srv/ganeti/os/{name}",
        api_versions=(20,),
        variants=tuple(map(OsVariant, variants)),
        parameters=declared,
    )


TINY = an_os("tiny", "a", "b", "p")
OTHER = an_os("other", "a", "c")


def a_cluster() -> ClusterConfig:
    return a_config(a_node("node2"), a_node("node3", vm_capable=False))


def added(
    config: ClusterConfig | None = None,
    name: str = "web1",
    *,
    definition: OsDefinition = TINY,
    confidential: Confidential | None = None,
    **wanted: Any,
) -> instances.Install:
    request = InstanceAdd(**{"name": name, "node": "node2", "os": definition.name, **wanted})
    count = 1 + len(request.disks) + len(request.nics)
    return instances.add(
        config or a_cluster(),
        request,
        confidential or Confidential(),
        definition,
        uuids=[f"uuid-{name}-{number}" for number in range(count)],
        macs=["aa:00:00:00:00:01", "aa:00:00:00:00:02", "aa:00:00:00:00:03"],
        now=5.0,
    )


def test_an_instance_is_added_with_all_that_was_said() -> None:
    install = added(
        hvparams={"acpi": True, "vga": None},
        beparams={"vcpus": 2},
        parameters={"a": "1"},
        confidential=Confidential(private={"p": "2"}, secret={"b": "3"}),
        disks=(DiskWanted(path="/dev/vg/x", size_mib=5), DiskWanted(path="/srv/x", access="ro", name="data")),
        nics=(NicWanted(link="br0"), NicWanted(mac="AA:00:00:00:00:02", ip="192.0.2.1")),
    )

    instance = install.config.instance("web1")
    assert instance == install.instance
    assert (instance.hypervisor, instance.hvparams, instance.beparams) == ("kvm", {"acpi": True}, {"vcpus": 2})
    assert (instance.osparams, instance.osparams_private) == ({"a": "1"}, {"p": "2"})
    assert [(disk.path, disk.backend, disk.uuid) for disk in instance.disks] == [
        ("/dev/vg/x", "block", "uuid-web1-1"),
        ("/srv/x", "file:loop", "uuid-web1-2"),
    ]
    assert [nic.mac for nic in instance.nics] == ["aa:00:00:00:00:01", "aa:00:00:00:00:02"]
    assert from_text(to_text(install.config)) == install.config
    assert '"b"' not in to_text(install.config)  # a secret parameter is not even named


def test_defaults_of_the_cluster_become_the_instances_own() -> None:
    """What is stored is what the script gets, so a default that changes later changes nothing."""
    config = a_cluster()
    config = replace(config, cluster=replace(config.cluster, osparams={"tiny": {"a": "cluster"}}))

    assert added(config).instance.osparams == {"a": "cluster"}


def test_a_config_from_before_the_key_is_read() -> None:
    text = to_text(a_config()).replace('  "instances": {},\n', "")

    assert "instances" not in text
    assert from_text(text) == a_config()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"primary_node": "uuid-node2"', '"primary_node": "uuid-nobody"', "its primary_node does not fit"),
        ('"uuid": "uuid-web1-0"', '"uuid": "uuid-web9"', "its uuid does not fit"),
        ('"name": "web2"', '"name": "web1"', "instance name web1 twice"),
        ('"osparams_private": {}', '"osparams_private": {"a": "9"}', "a both in osparams and in osparams_private"),
    ],
)
def test_records_that_do_not_go_together_are_damage(old: str, new: str, reason: str) -> None:
    text = to_text(added(added(parameters={"a": "1"}).config, "web2").config)
    assert old in text

    with pytest.raises(Refused, match=reason):
        from_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"name": "web 1"}, "instance name 'web 1'"),
        ({"node": "node3"}, "node node3 is not vm-capable; first: gnt-mesh node modify node3 --vm-capable yes"),
        ({"node": "node9"}, "node 'node9' is not in the cluster"),
        ({"hypervisor": "xen-pvm"}, "hypervisor xen-pvm is not enabled in this cluster; enabled: kvm"),
        ({"os": "tiny+small"}, "OS tiny has no variants"),
        ({"os": "ti ny"}, "OS name 'ti ny'"),
        ({"parameters": {"z": "1"}}, "OS tiny does not declare parameter z"),
        ({"parameters": {"a": "\t"}}, "OS parameter a: character 1 of its value"),
        ({"disks": (DiskWanted(path="x"),)}, "disk: path 'x' is not absolute"),
        ({"disks": (DiskWanted(path="/x"), DiskWanted(path="/x"))}, "disk /x is named twice"),
        ({"nics": (NicWanted(mac="x"),)}, "MAC address 'x'"),
        ({"nics": (NicWanted(mac="aa:00:00:00:00:09"),) * 2}, "MAC address aa:00:00:00:00:09 is in use already"),
        ({"hvparams": {"a b": 1}}, "hypervisor parameter"),
        ({"hvparams": {"nonsense": 1}}, "hypervisor parameter nonsense: kvm has none of that name"),
        ({"hvparams": {"acpi": "maybe"}}, "hypervisor parameter acpi of kvm: 'maybe' is neither yes nor no"),
        ({"beparams": {"a": "\n"}}, "backend parameter"),
    ],
)
def test_what_cannot_be_added_is_refused(wanted: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        added(**wanted)


def test_two_instances_share_neither_name_nor_disk_nor_mac() -> None:
    first = added(disks=(DiskWanted(path="/x"),), nics=(NicWanted(),)).config

    with pytest.raises(Refused, match="instance web1 exists already"):
        added(first)
    with pytest.raises(Refused, match="disk /x on node node2 is a disk of instance web1 already"):
        added(first, "web2", disks=(DiskWanted(path="/x"),))
    assert added(first, "web2", nics=(NicWanted(),)).instance.nics[0].mac == "aa:00:00:00:00:02"


def test_an_add_whose_job_was_not_taken_yet_is_made_anew_under_the_same_id() -> None:
    """The master may die between the instance's record and the job's: nothing has run, and who asked asks again."""
    wanted: dict[str, Any] = {"job": JOB, "disks": (DiskWanted(path="/x"),)}
    config = added(**wanted).config
    assert config.instance("web1").noted_jobs == (JOB.id,)
    assert from_text(to_text(config)) == config

    again = added(config, parameters={"a": "9"}, **wanted)

    assert (again.instance.osparams, list(again.config.instances.values())) == ({"a": "9"}, [again.instance])
    for job in (None, replace(JOB, id=JobId("job2"))):
        with pytest.raises(Refused, match="instance web1 exists already"):
            added(config, disks=wanted["disks"], job=job)


def test_what_has_been_installed_or_changed_is_never_made_anew() -> None:
    wanted: dict[str, Any] = {"job": JOB, "disks": (DiskWanted(path="/x"),)}
    config = added(**wanted).config
    before = config.instance("web1")
    modified = instances.modify(config, InstanceModify(name="web1", beparams={"vcpus": 4}), None, now=6.0)
    installed = instances.end_install(config, before.uuid)

    assert installed.instance("web1") == replace(before, install=None)  # the instance is what its script was told
    assert instances.end_install(installed, before.uuid) is installed
    for after in (installed, modified, reinstalled(config, job=replace(JOB, id=JobId("job2"))).config):
        with pytest.raises(Refused, match="instance web1 exists already"):
            added(after, **wanted)


def test_no_job_no_note() -> None:
    assert added(disks=(DiskWanted(path="/x"),)).instance.install is None
    assert added(job=JOB).instance.install is None  # without a disk no script is run


def reinstalled(
    config: ClusterConfig, *, definition: OsDefinition = TINY, confidential: Confidential | None = None, **wanted: Any
) -> instances.Install:
    request = InstanceReinstall(**{"name": "web1", "job": JOB, **wanted})
    return instances.begin_reinstall(config, request, confidential or Confidential(), definition, now=6.0)


def an_installed(**wanted: Any) -> ClusterConfig:
    given = {"parameters": {"a": "1", "b": "2"}, "confidential": Confidential(private={"p": "3"})} | wanted
    return added(**given).config


def test_the_same_os_keeps_what_is_stored_below_what_is_given() -> None:
    install = reinstalled(an_installed(), parameters={"a": "9"})

    assert install.settled.public == {"a": "9", "b": "2"}
    assert install.settled.private == {"p": "3"}
    assert install.settled.dropped == ()


def test_another_os_discards_them() -> None:
    """Founding text: "by default discarded and reset to the default (or passed) values"."""
    config = an_installed()
    config = replace(config, cluster=replace(config.cluster, osparams={"other": {"a": "default of other"}}))

    install = reinstalled(config, definition=OTHER, os="other", parameters={"c": "4"})

    assert install.settled.public == {"a": "default of other", "c": "4"}
    assert install.settled.private == {} and install.settled.dropped == ()


def test_keep_known_keeps_what_the_other_os_declares_and_tells_the_rest() -> None:
    install = reinstalled(an_installed(), definition=OTHER, os="other", keep_known=True)

    assert install.settled.public == {"a": "1"}
    assert install.settled.dropped == ("b", "p")


def test_another_variant_is_the_same_os() -> None:
    tiny = replace(TINY, variants=(OsVariant("x"), OsVariant("y")))
    config = added(definition=tiny, os="tiny+x", parameters={"a": "1"}).config

    install = reinstalled(config, definition=tiny, os="tiny+y")

    assert (install.os, install.settled.public) == ("tiny+y", {"a": "1"})


@pytest.mark.parametrize("has_begun", [True, False])
def test_what_a_reinstall_brings_is_stored_once_its_script_has_begun(has_begun: bool) -> None:
    install = reinstalled(an_installed(), definition=OTHER, os="other", parameters={"c": "4"})
    before = install.config.instance("web1")
    assert (before.os, before.osparams) == ("tiny", {"a": "1", "b": "2"})

    after = instances.end_reinstall(install.config, before.uuid, has_begun=has_begun, now=7.0).instance("web1")

    assert after.reinstall is None
    assert (after.os, after.osparams) == (("other", {"c": "4"}) if has_begun else ("tiny", {"a": "1", "b": "2"}))


def test_a_reinstall_that_is_over_or_gone_changes_nothing() -> None:
    config = an_installed()

    assert instances.end_reinstall(config, config.instance("web1").uuid, has_begun=True, now=7.0) is config
    assert instances.end_reinstall(config, "uuid-nobody", has_begun=True, now=7.0) is config


def test_one_reinstall_at_a_time() -> None:
    config = reinstalled(an_installed()).config

    with pytest.raises(Refused, match="is being reinstalled by job job1; first: gnt-mesh job cancel job1"):
        reinstalled(config, job=replace(JOB, id=JobId("job2")))
    assert reinstalled(config).instance.noted_jobs == (JOB.id,)  # the same request again is the same job


def test_os_parameters_cannot_be_modified() -> None:
    """Founding text: "It will be impossible to change parameters for an instance, except at reinstall time"."""
    with pytest.raises(Refused, match="only when it is reinstalled; use: gnt-mesh instance reinstall web1 -O a="):
        instances.modify(an_installed(), InstanceModify(name="web1", parameters=("a",)), None, now=6.0)


def test_what_may_be_modified() -> None:
    config = an_installed(hvparams={"acpi": True, "vga": "std"})
    request = InstanceModify(name="web1", os="other", hvparams={"acpi": "no", "vga": None}, beparams={"vcpus": 4})

    after = instances.modify(config, request, OTHER, now=6.0)

    instance = after.instance("web1")
    assert (instance.os, instance.hvparams, instance.beparams) == ("other", {"acpi": False}, {"vcpus": 4})
    assert instances.modify(after, request, OTHER, now=7.0) is after
    with pytest.raises(Refused, match="hypervisor parameter"):
        instances.modify(config, InstanceModify(name="web1", hvparams={"a": "\n"}), None, now=6.0)
    with pytest.raises(Refused, match="OS other has no variants"):
        instances.modify(config, InstanceModify(name="web1", os="other+x"), OTHER, now=6.0)


def test_a_rename_and_a_removal() -> None:
    config = added(an_installed(), "web2").config

    renamed = instances.rename(config, InstanceRename(name="web1", new_name="web3"), now=6.0)
    assert {instance.name for instance in renamed.instances.values()} == {"web2", "web3"}
    removed = instances.remove(renamed, "web3", now=7.0)
    assert {instance.name for instance in removed.instances.values()} == {"web2"}
    for new_name, reason in (("web2", "exists already"), ("web1", "has that name already"), ("a b", "instance name")):
        with pytest.raises(Refused, match=reason):
            instances.rename(config, InstanceRename(name="web1", new_name=new_name), now=6.0)
    with pytest.raises(Refused, match="there is no instance 'web9'"):
        instances.remove(config, "web9", now=6.0)


def test_a_node_with_instances_stays_and_stays_vm_capable() -> None:
    config = an_installed()

    with pytest.raises(Refused, match="node node2 cannot be removed: it holds instance web1"):
        operations.remove_node(config, NodeRemove(name="node2"), now=6.0)
    with pytest.raises(Refused, match="node node2 cannot stop being vm-capable: it holds instance web1"):
        operations.modify_node(config, NodeModify(name="node2", vm_capable=False), now=6.0)


def test_what_is_shown_names_private_parameters_only() -> None:
    config = an_installed()

    shown = instances.info(config, config.instance("web1"))

    assert (shown.osparams, shown.private_names) == ({"a": "1", "b": "2"}, ("p",))
    assert "'3'" not in repr(shown)


def test_a_job_carries_what_is_stored() -> None:
    config = an_installed(hvparams={"acpi": True}, disks=(DiskWanted(path="/x"), DiskWanted(path="/y")))
    config = replace(config, cluster=replace(config.cluster, hvparams={"kvm": {"acpi": False, "usb": 1}}))
    instance = config.instance("web1")
    private = Confidential(private=instance.osparams_private)

    job = os_job(
        config,
        instance,
        "export",
        JOB,
        now=9.0,
        confidential=private,
        sealed=b"sealed",
        transfers=transfers_of(instance, "/srv/export/web1/"),
    )

    assert (job.node, job.os, job.parameters, job.private_names) == ("node2", "tiny", {"a": "1", "b": "2"}, ("p",))
    assert job.instance
    told = {name: job.instance.hvparams[name] for name in ("acpi", "usb", "serial_console", "kernel_path")}
    assert told == {"acpi": True, "usb": 1, "serial_console": True, "kernel_path": "/boot/vmlinuz-3-kvmU"}
    assert job.instance.beparams["vcpus"] == 1
    assert [transfer.path for transfer in job.transfers] == ["/srv/export/web1/disk0", "/srv/export/web1/disk1"]
    with pytest.raises(Refused, match="has no disk to export from"):
        transfers_of(replace(instance, disks=()), "/srv")
    with pytest.raises(Refused, match="not absolute"):
        transfers_of(instance, "srv")
    with pytest.raises(Refused, match="debug_level"):
        os_job(
            config, instance, "create", replace(JOB, debug_level=99), now=9.0, confidential=Confidential(), sealed=b""
        )
