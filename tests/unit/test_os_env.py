"""os_env: exactly these variables, by API version, action and hypervisor.

`tests/golden/os-env/` holds whole environments, to be read; `pytest --update-golden` writes them anew. `TABLE` is the
variables as the founding text and Ganeti's manual and source have them, with the version each came with: what is
passed is held against it in both directions.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.core.os_env import Descriptors, Environment, check, environment
from protocol.errors import Refused
from protocol.names import NodeName
from protocol.os_messages import (
    Confidential,
    OsDefinition,
    OsDisk,
    OsInstance,
    OsJob,
    OsNic,
    OsParameter,
    OsTransfer,
    Scalar,
)
from protocol.os_names import JobId, OsName, OsVariant, instance_name, os_parameter_name

GOLDEN = Path(__file__).parent.parent / "golden" / "os-env"

HYPERVISORS: dict[str, dict[str, Scalar]] = {
    "kvm": {
        "acpi": True,
        "disk_type": "paravirtual",
        "nic_type": "virtio",
        "kernel_path": None,
        "migration_port": 8102,
    },
    "xen-hvm": {"boot_order": "cd", "disk_type": "ioemu", "nic_type": "rtl8139", "vnc_bind_address": "0.0.0.0"},
    "xen-pvm": {"kernel_path": "/boot/vmlinuz-3-xenU", "root_path": "/dev/xvda1", "use_bootloader": False},
}
ACTIONS = ("create", "reinstall", "import", "export", "rename", "verify")

DEFINITION = OsDefinition(
    name="tiny",
    directory="/srv/ganeti/os/tiny",
    api_versions=(20, 15, 10),
    variants=(OsVariant("small"), OsVariant("a+b")),
    parameters=(
        OsParameter(name=os_parameter_name("size"), since=15),
        OsParameter(name=os_parameter_name("dhcp-name"), since=20),
        OsParameter(name=os_parameter_name("token"), since=15),
        OsParameter(name=os_parameter_name("password"), since=15, secret=True),
    ),
)
CONFIDENTIAL = Confidential(private={"token": "t0ken"}, secret={"password": "hush"})
DESCRIPTORS = Descriptors(size=3, progress=4)

USER = OsParameter(name=os_parameter_name("user"), since=15, required=True)
WITH_REQUIRED = replace(DEFINITION, parameters=(*DEFINITION.parameters, USER))
WITH_INTEGER = replace(
    DEFINITION, parameters=(replace(DEFINITION.parameters[0], type="integer"), *DEFINITION.parameters[1:])
)

ALL = frozenset({"create", "reinstall", "import", "export", "rename"})
ALWAYS = ALL | {"verify"}

TABLE = (
    # Ganeti 2.0
    ("OS_API_VERSION", ALWAYS, 10),
    ("DEBUG_LEVEL", ALWAYS, 10),
    ("PATH", ALWAYS, 10),  # inherited before 2.5.1; the environment is clean, so it is said
    ("INSTANCE_NAME", ALL, 10),
    ("INSTANCE_OS", ALL, 10),
    ("HYPERVISOR", ALL, 10),
    ("DISK_COUNT", ALL, 10),
    ("NIC_COUNT", ALL, 10),
    ("DISK_[01]_PATH", ALL, 10),
    ("DISK_[01]_ACCESS", ALL, 10),
    ("DISK_[01]_BACKEND_TYPE", ALL, 10),
    ("DISK_[01]_FRONTEND_TYPE", ALL, 10),
    ("NIC_[012]_MAC", ALL, 10),
    ("NIC_0_IP", ALL, 10),
    ("NIC_0_BRIDGE", ALL, 10),
    ("NIC_[012]_FRONTEND_TYPE", ALL, 10),
    ("OLD_INSTANCE_NAME", frozenset({"rename"}), 10),
    ("EXPORT_INDEX", frozenset({"export"}), 10),
    ("EXPORT_DEVICE", frozenset({"export"}), 10),
    ("IMPORT_INDEX", frozenset({"import"}), 10),
    ("IMPORT_DEVICE", frozenset({"import"}), 10),
    # the founding text, and what came with Ganeti 2.0.1 and 2.1
    ("INSTANCE_HYPERVISOR", ALL, 15),
    ("INSTANCE_HV_[a-z_]+", ALL, 15),
    ("INSTANCE_BE_[a-z_]+", ALL, 15),
    ("INSTANCE_OS_PARAMETER_(SIZE|TOKEN)", ALWAYS, 15),
    ("INSTANCE_OS_PARAMETER_PASSWORD", frozenset({"create", "reinstall", "verify"}), 15),
    ("OS_VARIANT", ALWAYS, 15),
    ("INSTANCE_REINSTALL", frozenset({"reinstall"}), 15),
    ("NIC_[012]_MODE", ALL, 15),
    ("NIC_[01]_LINK", ALL, 15),
    # Ganeti 2.2 and later
    ("INSTANCE_OS_PARAMETER_DHCP_NAME", ALWAYS, 20),  # declared in parameters.list alone
    ("OSP_(SIZE|TOKEN|DHCP_NAME)", ALWAYS, 20),
    ("OSP_PASSWORD", frozenset({"create", "reinstall", "verify"}), 20),
    ("OS_NAME", ALWAYS, 20),
    ("INSTANCE_(UUID|CTIME|MTIME)", ALL, 20),
    ("INSTANCE_PRIMARY_NODE", ALL, 20),
    ("INSTANCE_SECONDARY_NODES", ALL, 20),
    ("DISK_[01]_UUID", ALL, 20),
    ("DISK_0_SIZE", ALL, 20),
    ("DISK_0_NAME", ALL, 20),
    ("NIC_[012]_UUID", ALL, 20),
    ("NIC_0_NAME", ALL, 20),
    ("EXPORT_DISK_PATH", frozenset({"export"}), 20),
    ("IMPORT_DISK_PATH", frozenset({"import"}), 20),
    ("EXP_SIZE_FD", frozenset({"export"}), 20),
    # ours
    ("OS_PROGRESS_FD", ALWAYS, 20),
)
"""Variable, the actions it is for, the API version it came with."""


def an_instance(hypervisor: str = "kvm") -> OsInstance:
    """One with everything: a second disk and interface without what is optional."""
    return OsInstance(
        name=instance_name("web1.example.com"),
        uuid="8f6e0e3e-0001",
        ctime=1700000000.25,
        mtime=1700000001.5,
        primary_node="8f6e0e3e-node2",
        hypervisor=hypervisor,
        hvparams=HYPERVISORS[hypervisor],
        beparams={"maxmem": 1024, "minmem": 512, "vcpus": 2, "auto_balance": True},
        disks=(
            OsDisk(path="/dev/xenvg/web1-disk0", size_mib=10240, uuid="8f6e0e3e-disk0", name="root"),
            OsDisk(path="/srv/ganeti/disk1", access="ro", backend="file:loop", uuid="8f6e0e3e-disk1"),
        ),
        nics=(
            OsNic(mac="aa:00:00:00:00:01", link="xen-br0", ip="192.0.2.1", uuid="8f6e0e3e-nic0", name="front"),
            OsNic(mac="aa:00:00:00:00:02", mode="routed", link="100", uuid="8f6e0e3e-nic1"),
            OsNic(mac="aa:00:00:00:00:03", mode="openvswitch", uuid="8f6e0e3e-nic2"),
        ),
    )


def a_job(action: str = "create", hypervisor: str = "kvm", **changed: object) -> OsJob:
    script = "create" if action == "reinstall" else action
    job = OsJob(
        id=JobId("1"),
        node=NodeName("node2"),
        epoch=1,
        requested=1700000002.0,
        action=script,  # type: ignore[arg-type]
        os=OsName("tiny"),
        variant=OsVariant("a+b"),
        instance=None if action == "verify" else an_instance(hypervisor),
        parameters={"size": "large one", "dhcp-name": ""},
        private_names=(os_parameter_name("token"),),
        secret_names=(os_parameter_name("password"),),
        sealed=b"sealed",
        is_reinstall=action == "reinstall",
        old_name=instance_name("web0.example.com") if action == "rename" else None,
        transfers=transfers(script),
        debug_level=2,
    )
    return replace(job, **changed)  # type: ignore[arg-type]


def transfers(script: str) -> tuple[OsTransfer, ...]:
    return (OsTransfer(disk=1, path="/srv/ganeti/export/disk1"),) if script in ("export", "import") else ()


def run(job: OsJob, api_version: int = 20, *, definition: OsDefinition = DEFINITION) -> Environment:
    transfer = job.transfers[0] if job.transfers else None
    return environment(
        definition, job, CONFIDENTIAL, transfer=transfer, descriptors=DESCRIPTORS, api_version=api_version
    )


def as_text(env: Environment) -> str:
    lines = [f"{name}={value}" for name, value in env.variables.items()]
    lines += [f"# withheld: {name}: {reason}" for name, reason in env.withheld.items()]
    return "\n".join(lines) + "\n"


CASES = [(version, action, hypervisor) for version in (10, 15, 20) for action in ACTIONS for hypervisor in HYPERVISORS]


@pytest.mark.parametrize(("version", "action", "hypervisor"), CASES)
def test_a_script_gets_exactly_this(version: int, action: str, hypervisor: str, request: pytest.FixtureRequest) -> None:
    file = GOLDEN / f"{version}-{action}-{hypervisor}.env"
    text = as_text(run(a_job(action, hypervisor), version))
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    assert text == file.read_text()


def test_there_is_no_golden_environment_of_nothing() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == {f"{v}-{action}-{hv}.env" for v, action, hv in CASES}


@pytest.mark.parametrize(("version", "action", "hypervisor"), CASES)
def test_what_is_passed_is_in_the_table(version: int, action: str, hypervisor: str) -> None:
    env = run(a_job(action, hypervisor), version)
    allowed = [pattern for pattern, actions, since in TABLE if action in actions and since <= version]

    assert [name for name in env.variables if not any(re.fullmatch(pattern, name) for pattern in allowed)] == []


@pytest.mark.parametrize(("version", "action", "hypervisor"), CASES)
def test_what_is_in_the_table_is_passed(version: int, action: str, hypervisor: str) -> None:
    env = run(a_job(action, hypervisor), version)
    due = [pattern for pattern, actions, since in TABLE if action in actions and since <= version]
    if hypervisor == "xen-pvm":  # has neither parameter
        due = [pattern for pattern in due if "FRONTEND" not in pattern]

    assert [pattern for pattern in due if not any(re.fullmatch(pattern, name) for name in env.variables)] == []


@pytest.mark.parametrize(("version", "action", "hypervisor"), CASES)
def test_what_is_withheld_is_what_a_later_version_has(version: int, action: str, hypervisor: str) -> None:
    job = a_job(action, hypervisor)
    passed = run(job, version)

    latest = run(job, 20)
    assert passed.withheld.keys() == (latest.variables.keys() | latest.withheld.keys()) - passed.variables.keys()


def test_the_highest_common_version_is_used() -> None:
    assert environment(DEFINITION, a_job(), CONFIDENTIAL).api_version == 20
    newer = replace(DEFINITION, api_versions=(10, 15, 99))
    assert environment(newer, a_job(), CONFIDENTIAL).variables["OS_API_VERSION"] == "15"


@pytest.mark.parametrize("version", [5, 11, 99])
def test_a_version_that_there_is_not_is_refused(version: int) -> None:
    with pytest.raises(Refused, match=f"no OS API version {version}; the mesh knows 10, 15, 20"):
        run(a_job(), version)


def test_an_os_without_a_common_version_is_refused() -> None:
    with pytest.raises(Refused, match="the mesh knows 10, 15, 20"):
        environment(replace(DEFINITION, api_versions=(5,)), a_job(), CONFIDENTIAL)


def test_values_are_written_as_ganeti_writes_them() -> None:
    variables = run(a_job()).variables

    assert variables["INSTANCE_HV_acpi"] == "True"
    assert variables["INSTANCE_HV_kernel_path"] == "None"
    assert variables["INSTANCE_HV_migration_port"] == "8102"
    assert variables["INSTANCE_CTIME"] == "1700000000.25"
    assert variables["INSTANCE_SECONDARY_NODES"] == ""
    assert variables["OSP_DHCP_NAME"] == variables["INSTANCE_OS_PARAMETER_DHCP_NAME"] == ""


@pytest.mark.parametrize(
    ("variant", "listed", "passed"),
    [("a+b", ("small",), "a+b"), (None, ("small", "large"), "small"), (None, (), "")],
)
def test_the_first_variant_is_the_default(variant: str | None, listed: tuple[str, ...], passed: str) -> None:
    """A forced one that is not listed is passed as it is."""
    definition = replace(DEFINITION, variants=tuple(map(OsVariant, listed)))

    env = run(a_job(variant=variant), definition=definition)

    assert env.variables["OS_VARIANT"] == passed
    assert env.variables["INSTANCE_OS"] == (f"tiny+{variant}" if variant else "tiny")


@pytest.mark.parametrize(("action", "level"), [("create", "2"), ("rename", "2"), ("export", "0"), ("verify", "0")])
def test_the_debug_level_is_for_create_and_rename(action: str, level: str) -> None:
    assert run(a_job(action)).variables["DEBUG_LEVEL"] == level


def test_descriptors_are_named_only_if_they_are_open() -> None:
    env = environment(DEFINITION, a_job("export"), CONFIDENTIAL, transfer=transfers("export")[0])

    assert not env.variables.keys() & {"EXP_SIZE_FD", "OS_PROGRESS_FD"}


@pytest.mark.parametrize("action", ["rename", "export", "import"])
def test_secrets_are_for_the_run_they_are_given_to(action: str) -> None:
    env = run(a_job(action))

    assert "hush" not in env.variables.values()
    assert env.variables["OSP_TOKEN"] == "t0ken"
    assert env.withheld["OSP_PASSWORD"].startswith("secret")


def test_confidential_variables_are_known_by_name() -> None:
    env = run(a_job())

    assert env.confidential == {name for name, value in env.variables.items() if value in ("t0ken", "hush")}
    assert len(env.confidential) == 4
    assert "t0ken" not in repr(env) and "hush" not in repr(env)


def test_what_the_definition_does_not_declare_is_withheld() -> None:
    """An instance keeps its parameters when its OS changes; it can still be renamed."""
    env = run(a_job("rename"), definition=replace(DEFINITION, parameters=DEFINITION.parameters[:1]))

    assert "OSP_TOKEN" not in env.variables and "INSTANCE_OS_PARAMETER_DHCP_NAME" not in env.variables
    assert env.withheld["OSP_TOKEN"] == "not declared by the OS definition on this node"


def test_a_job_that_the_os_can_do_passes_the_check() -> None:
    check(DEFINITION, a_job(), CONFIDENTIAL)
    check(replace(DEFINITION, variants=()), a_job(variant=None), CONFIDENTIAL)


@pytest.mark.parametrize(
    ("definition", "job", "reason"),
    [
        (
            replace(DEFINITION, problems=("create is missing",)),
            a_job(),
            "on node2 is not usable: create is missing",
        ),
        (DEFINITION, a_job(variant=OsVariant("big")), "has no variant big; its variants are small, a\\+b"),
        (replace(DEFINITION, variants=()), a_job(), "has no variant a\\+b; it has no variants"),
        (DEFINITION, a_job(parameters={"colour": "x"}), "does not declare parameter colour; it declares size, dhcp"),
        (replace(DEFINITION, parameters=()), a_job(), "does not declare parameter size; it declares none"),
        (
            replace(
                DEFINITION,
                parameters=(
                    *DEFINITION.parameters,
                    OsParameter(name=os_parameter_name("user"), since=15, required=True),
                ),
            ),
            a_job(),
            "OS tiny needs parameter user",
        ),
        (
            replace(
                DEFINITION, parameters=(replace(DEFINITION.parameters[0], type="integer"), *DEFINITION.parameters[1:])
            ),
            a_job(),
            "OS parameter size of tiny is not a whole number",
        ),
    ],
)
def test_the_node_checks_again_what_the_master_has_checked(definition: OsDefinition, job: OsJob, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        check(definition, job, CONFIDENTIAL)


def test_a_refusal_shows_no_confidential_value() -> None:
    definition = replace(DEFINITION, parameters=DEFINITION.parameters[:2])

    with pytest.raises(Refused) as error:
        check(definition, a_job(), CONFIDENTIAL)
    assert "t0ken" not in str(error.value) and "hush" not in str(error.value)
