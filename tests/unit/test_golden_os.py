"""The OS interface's part of the wire, byte for byte; as in `test_golden`, and with its `--update-golden`."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from protocol import codec, os_messages
from protocol.names import NodeName
from protocol.os_messages import (
    Confidential,
    OsDefinition,
    OsDisk,
    OsEnv,
    OsEnvWanted,
    OsInstance,
    OsJob,
    OsNic,
    OsParameter,
    OsReport,
    OsReportWanted,
    OsTransfer,
)
from protocol.os_names import JobId, OsName, OsVariant, instance_name, os_parameter_name

GOLDEN = Path(__file__).parent.parent / "golden" / "os"

NODE = NodeName("node2.example.com")
PARAMETER = OsParameter(
    name=os_parameter_name("mirror-url"),
    since=15,
    help="where packages come from; süd",
    type="string",
    choices=("http://a/", "http://b/"),
    default="http://a/",
    required=True,
    secret=True,
)
DEFINITION = OsDefinition(
    name="tiny",
    directory="/srv/ganeti/os/tiny",
    api_versions=(20, 15, 10),
    variants=(OsVariant("small"), OsVariant("a+b")),
    parameters=(PARAMETER,),
    problems=("create is not executable",),
)
DISK = OsDisk(path="/dev/vg/disk0", access="ro", backend="file:loop", size_mib=2048, uuid="uuid-disk0", name="root")
NIC = OsNic(mac="aa:00:00:01:02:03", mode="routed", link="100", ip="192.0.2.7", uuid="uuid-nic0", name="front")
INSTANCE = OsInstance(
    name=instance_name("web1.example.com"),
    uuid="uuid-web1",
    ctime=1_700_000_000.25,
    mtime=1_700_000_001.5,
    primary_node="uuid-node2",
    hypervisor="kvm",
    hvparams={"acpi": True, "kernel_path": None, "migration_port": 8102, "cpu_mask": "all", "share": 0.5},
    beparams={"vcpus": 2},
    disks=(DISK,),
    nics=(NIC,),
)
TRANSFER = OsTransfer(disk=0, path="/srv/ganeti/export/web1.example.com/disk0")
COMMON: dict[str, Any] = {
    "id": JobId("17-create"),
    "node": NODE,
    "epoch": 3,
    "requested": 1_700_000_002.75,
    "os": OsName("tiny"),
    "variant": OsVariant("a+b"),
    "parameters": {"size": "small", "user": ""},
    "private_names": (os_parameter_name("token"),),
    "secret_names": (os_parameter_name("password"),),
    "sealed": b"\x00\xff sealed",
    "debug_level": 1,
    "timeout_s": 60.5,
}
CREATE = OsJob(action="create", instance=INSTANCE, is_reinstall=True, **COMMON)

SAMPLES: dict[str, Any] = {
    "OsParameter": PARAMETER,
    "OsDefinition": DEFINITION,
    "OsReport": OsReport(node=NODE, definitions=(DEFINITION,), problems=("/srv/ganeti/os: not a directory",)),
    "OsReportWanted": OsReportWanted(),
    "OsDisk": DISK,
    "OsNic": NIC,
    "OsInstance": INSTANCE,
    "OsTransfer": TRANSFER,
    "OsJob-create": CREATE,
    "OsJob-import": OsJob(action="import", instance=INSTANCE, transfers=(TRANSFER,), **COMMON),
    "OsJob-export": OsJob(action="export", instance=INSTANCE, transfers=(TRANSFER,), **COMMON),
    "OsJob-rename": OsJob(action="rename", instance=INSTANCE, old_name=instance_name("web0"), **COMMON),
    "OsJob-verify": OsJob(action="verify", **COMMON),
    "Confidential": Confidential(private={"token": "t0ken"}, secret={"password": "pässword"}),
    "OsEnvWanted": OsEnvWanted(job=CREATE, api_version=15),
    "OsEnv": OsEnv(
        api_version=15,
        directory="/srv/ganeti/os/tiny",
        variables={"OS_API_VERSION": "15"},
        redacted=("INSTANCE_OS_PARAMETER_TOKEN",),
        withheld={"OS_NAME": "came with OS API 20"},
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_is_encoded_as_ever(name: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{name}.msgpack"
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(codec.encode(SAMPLES[name]))

    assert codec.encode(SAMPLES[name]) == file.read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_an_old_message_is_still_understood(name: str) -> None:
    data = (GOLDEN / f"{name}.msgpack").read_bytes()

    assert codec.decode(data, type(SAMPLES[name])) == SAMPLES[name]
    assert codec.decode_any(data) == SAMPLES[name]


def test_there_is_a_golden_message_of_every_kind() -> None:
    kinds = {name for name, kind in vars(os_messages).items() if dataclasses.is_dataclass(kind)}

    assert {type(message).__name__ for message in SAMPLES.values()} == kinds
    assert {file.name for file in GOLDEN.iterdir()} == {f"{name}.msgpack" for name in SAMPLES}


@pytest.mark.parametrize("kind", dict.fromkeys(map(type, SAMPLES.values())), ids=lambda kind: kind.__name__)
def test_golden_messages_have_something_in_every_field(kind: type) -> None:
    """A default would not show that the field is encoded at all. No job has all fields: each action has its own."""
    samples = [message for message in SAMPLES.values() if type(message) is kind]

    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        assert any(getattr(sample, field.name) or field.name == "disk" for sample in samples), field.name
