"""`gnt-mesh instance ...` and `os env`: what they ask of the master, and what they print."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocol import identity, sealing
from protocol.instance_messages import (
    DiskWanted,
    InstanceAdd,
    InstanceExport,
    InstanceInfo,
    InstanceInfos,
    InstanceReinstall,
    InstanceRename,
    NicWanted,
    SealingKey,
)
from protocol.names import NodeName
from protocol.operator_job_messages import JobInfo, JobNews
from protocol.operator_messages import Changed
from protocol.operator_os_messages import OsEnvQuery
from protocol.os_messages import OsDisk, OsEnv, OsNic
from protocol.os_names import JobId
from tests.support.fake_operator_bus import FakeOperatorBus, a_goal

WEB1 = InstanceInfo(
    name="web1",
    uuid="uuid-web1",
    node="node2",
    os="tiny+small",
    hypervisor="kvm",
    hvparams={"acpi": True},
    beparams={"vcpus": 2},
    osparams={"size": "2"},
    private_names=("token",),
    disks=(OsDisk(path="/dev/vg/web1", size_mib=2048),),
    nics=(OsNic(mac="aa:00:00:00:00:01", link="br0"),),
    reinstalling="job7",
    serial_no=3,
    ctime=1.0,
    mtime=2.0,
)
ENV = OsEnv(
    api_version=15,
    directory="/srv/ganeti/os/tiny",
    variables={"OS_API_VERSION": "15", "PATH": "/bin"},
    redacted=("INSTANCE_OS_PARAMETER_TOKEN",),
    withheld={"OS_NAME": "came with OS API 20"},
)


def a_job(status: str = "success", **changed: Any) -> JobNews:
    facts: dict[str, Any] = {
        "id": JobId("job1"),
        "node": NodeName("node2"),
        "instance": "web1",
        "action": "create",
        "os": "tiny",
        "status": status,
        "exit_code": 0,
        "requested": 1.0,
        "started": 2.0,
        "ended": 3.0,
        "reason": "",
        "progress": None,
        "is_cancelled": False,
        "log_end": 5,
    }
    return JobNews(job=JobInfo(**{**facts, **changed}), revision=1, text=b"made\n", offset=5, has_more=False)


def a_bus(verb: str, *, job: str = "", **answers: list[object]) -> FakeOperatorBus:
    changed = Changed(goal=a_goal(), done=("Done so far.",), job=job)
    return FakeOperatorBus(
        {verb: [changed], "job.follow": [a_job()], **{k.replace("_", "."): v for k, v in answers.items()}}
    )


def sent(bus: FakeOperatorBus, verb: str) -> Any:
    (request,) = bus.requests(verb)
    return request


def test_add_takes_ganetis_flags() -> None:
    bus = a_bus("instance.add", job="job1")

    result = bus.run(
        *("instance", "add", "web1", "-n", "node2", "-o", "tiny+small", "-O", "a=1,b=2", "-O", "c=3"),
        *("--hypervisor", "kvm:acpi=true,kernel_path=none", "-H", "usb=4", "-B", "vcpus=2"),
        *("--disk", "/dev/vg/x:10g", "--disk", "/srv/a:b", "--disk", "/srv/y:512"),
        *("--net", "0:mac=aa:00:00:00:00:01,link=br0", "--net", "mode=routed,ip=192.0.2.1", "--net", ""),
        *("--force-variant", "--no-wait", "--job-id", "mine", "-dd", "--time-limit", "60"),
    )

    assert (result.exit_code, result.stdout) == (0, "Done so far.\nmade\nJob job1 has succeeded, after 1.0 s.\n")
    request = sent(bus, "instance.add")
    assert isinstance(request, InstanceAdd)
    assert (request.node, request.os, request.parameters) == ("node2", "tiny+small", {"a": "1", "b": "2", "c": "3"})
    assert (request.hypervisor, request.hvparams) == ("kvm", {"acpi": True, "kernel_path": None, "usb": 4})
    assert request.beparams == {"vcpus": 2}
    assert request.disks == (
        DiskWanted(path="/dev/vg/x", size_mib=10240),
        DiskWanted(path="/srv/a:b"),
        DiskWanted(path="/srv/y", size_mib=512),
    )
    assert request.nics == (
        NicWanted(mac="aa:00:00:00:00:01", link="br0"),
        NicWanted(mode="routed", ip="192.0.2.1"),
        NicWanted(),
    )
    assert request.job and request.force_variant
    assert (request.job.id, request.job.waits_for_node, request.job.debug_level) == ("mine", False, 2)
    assert request.job.timeout_s == 60


def test_no_install_asks_for_no_job() -> None:
    bus = a_bus("instance.add")

    assert bus.run("instance", "add", "web1", "-n", "node2", "-o", "tiny", "--no-install").exit_code == 0
    assert sent(bus, "instance.add").job is None
    assert bus.requests("job.follow") == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--disk", "/x", "--net", "speed=1"], "'speed' is none of mac, mode, link, ip, name"),
        (["--net", "mode=wifi"], "mode 'wifi' is none of bridged, routed, openvswitch"),
        (["-B", "vcpus"], "'vcpus' has no value"),
        (["-B", "a=1,a=2"], "parameter a is given twice"),
        (["-O", "a=\x07"], "OS parameter a: character 1 of its value is not a printable one"),
        (["--job-id", "a.b"], "job id 'a.b'"),
    ],
)
def test_what_is_written_wrongly_is_refused_before_anybody_is_asked(flags: list[str], reason: str) -> None:
    bus = FakeOperatorBus({})

    result = bus.run("instance", "add", "web1", "-n", "node2", "-o", "tiny", *flags)

    assert result.exit_code == 1
    assert reason in result.stderr
    assert bus.asked == []


def test_confidential_parameters_leave_the_command_sealed(tmp_path: Path) -> None:
    public = identity.ensure_seed(tmp_path / "master.nk")
    bus = a_bus("instance.add", os_key=[SealingKey(public_key=public)])
    flags = ("--os-parameters-private", "token=t0ken,x=1", "--os-parameters-secret", "password=hush")

    result = bus.run("instance", "add", "web1", "-n", "node2", "-o", "tiny", *flags)

    assert result.exit_code == 0
    request = sent(bus, "instance.add")
    assert "t0ken" not in repr(bus.asked) and b"hush" not in request.sealed
    opened = sealing.unseal(request.sealed, identity.read_seed(tmp_path / "master.nk"))
    assert (opened.private, opened.secret) == ({"token": "t0ken", "x": "1"}, {"password": "hush"})


def test_a_secret_without_a_value_is_read_from_standard_input(tmp_path: Path) -> None:
    """What is on a command line is in the process list."""
    from click.testing import CliRunner

    from master.cli.app import root
    from master.cli.connect import Wiring

    public = identity.ensure_seed(tmp_path / "master.nk")
    bus = a_bus("instance.reinstall", os_key=[SealingKey(public_key=public)])
    line = ["instance", "reinstall", "web1", "--os-parameters-secret", "password"]

    result = CliRunner().invoke(root, line, obj=Wiring(connect=bus.connect), input="h,u=sh\n")

    assert result.exit_code == 0, result.output
    opened = sealing.unseal(sent(bus, "instance.reinstall").sealed, identity.read_seed(tmp_path / "master.nk"))
    assert opened.secret == {"password": "h,u=sh"}


@pytest.mark.parametrize(
    ("status", "code", "said"), [("success", 0, ""), ("failed", 1, "failed"), ("cancelled", 1, "was cancelled")]
)
def test_the_job_is_followed_to_its_end(status: str, code: int, said: str) -> None:
    bus = a_bus("instance.reinstall", job="job1", job_follow=[a_job(status, reason="exit code 7" if code else "")])

    result = bus.run("instance", "reinstall", "web1", "-o", "other", "--keep-known-os-parameters", "-O", "a=default")

    assert result.exit_code == code
    assert said in result.stderr
    request = sent(bus, "instance.reinstall")
    assert isinstance(request, InstanceReinstall)
    assert (request.os, request.keep_known, request.parameters) == ("other", True, {"a": "default"})


def test_submit_does_not_follow_it() -> None:
    bus = a_bus("instance.reinstall", job="job1")

    told = json.loads(bus.run("instance", "reinstall", "web1", "--submit", "--json").stdout)

    assert told["job_id"] == "job1"
    assert bus.requests("job.follow") == []
    told = json.loads(bus.run("instance", "reinstall", "web1", "--json").stdout)
    assert (told["job_id"], told["job"]["status"]) == ("job1", "success")


def test_rename_export_and_import() -> None:
    bus = a_bus("instance.rename")
    assert bus.run("instance", "rename", "web1", "web2", "--no-script").exit_code == 0
    renamed = sent(bus, "instance.rename")
    assert isinstance(renamed, InstanceRename) and (renamed.new_name, renamed.job) == ("web2", None)

    bus = a_bus("instance.export")
    assert bus.run("instance", "export", "web1").exit_code == 0
    exported = sent(bus, "instance.export")
    assert isinstance(exported, InstanceExport) and exported.directory == "/srv/ganeti/export/web1"

    bus = a_bus("instance.add")
    assert bus.run("instance", "import", "web1", "-n", "node2", "-o", "tiny", "--from", "/srv/x").exit_code == 0
    assert sent(bus, "instance.add").import_from == "/srv/x"


def test_list_and_info_show_no_private_value() -> None:
    bus = FakeOperatorBus({"instance.list": [InstanceInfos(instances=(WEB1,))]})

    assert bus.run("instance", "list").stdout.splitlines()[1].split() == [
        "web1",
        "node2",
        "kvm",
        "tiny+small",
        "1",
        "job7",
    ]
    text = bus.run("instance", "info", "web1").stdout
    for expected in ("OS parameter size", "(private)", "/dev/vg/web1, rw, block, 2048 MiB", "link br0", "job job7"):
        assert expected in text
    (told,) = json.loads(bus.run("instance", "info", "--json").stdout)
    assert (told["osparams"], told["osparams_private"]) == ({"size": "2"}, ["token"])
    assert told["disks"][0]["size_mib"] == 2048


def test_env_shows_what_a_script_would_get_and_what_is_withheld() -> None:
    bus = FakeOperatorBus({"os.env": [ENV]})

    result = bus.run("os", "env", "web1", "--api", "15", "--action", "rename")

    assert bus.requests("os.env") == [OsEnvQuery(instance="web1", action="rename", api_version=15)]
    assert result.stdout.splitlines() == [
        "INSTANCE_OS_PARAMETER_TOKEN=<redacted>",
        "OS_API_VERSION=15",
        "PATH=/bin",
        "# withheld: OS_NAME: came with OS API 20",
    ]
    told = json.loads(bus.run("os", "env", "web1", "--json").stdout)
    assert (told["api_version"], told["redacted"]) == (15, ["INSTANCE_OS_PARAMETER_TOKEN"])
