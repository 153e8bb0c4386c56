"""os_messages: a value in hand is a valid value, and no text that a person sees has a confidential value in it."""

import dataclasses
from typing import Any

import pytest

from protocol import codec, os_messages
from protocol.os_messages import Confidential, OsDisk, OsEnvWanted, OsInstance, OsJob, OsNic, check_parameters
from protocol.os_names import os_parameter_name
from tests.unit.test_golden_os import COMMON, CREATE, DISK, INSTANCE, NIC, SAMPLES, TRANSFER

JOB = SAMPLES["OsJob-create"]


@pytest.mark.parametrize("action", ["create", "import", "export", "rename", "verify"])
def test_each_action_is_a_job(action: str) -> None:
    assert SAMPLES[f"OsJob-{action}"].action == action


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"id": "a.b"}, "job id"),
        ({"id": "x" * 65}, "job id"),
        ({"node": "a_b"}, "node name"),
        ({"epoch": 0}, "counts from 1"),
        ({"requested": float("inf")}, "in seconds"),
        ({"os": "a b"}, "OS name"),
        ({"variant": "../../etc/passwd"}, "OS variant"),
        ({"instance": None}, "about an instance"),
        ({"old_name": "web0"}, "belongs to rename"),
        ({"transfers": (TRANSFER,)}, "belong to export and import"),
        ({"debug_level": 10}, "0 to 9"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": 1e9}, "timeout_s"),
        ({"parameters": {"a": "line\nbreak"}}, "OS parameter a: character 5"),
        ({"parameters": {"a": "x" * 4097}}, "4097 characters, limit 4096"),
        ({"parameters": {"a=b": "x"}}, "OS parameter 'a=b'"),
        ({"parameters": {"token": "x"}}, "one of public, private and secret"),
        ({"secret_names": ("token",)}, "one of public, private and secret"),
        ({"sealed": b""}, "what is sealed"),
        ({"sealed": b"x" * (os_messages.SEALED_BYTES_MAX + 1)}, "what is sealed"),
        ({"private_names": (), "secret_names": ()}, "what is sealed"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(JOB, **changed)


@pytest.mark.parametrize(
    ("action", "changed", "reason"),
    [
        ("verify", {"instance": INSTANCE}, "about an instance"),
        ("rename", {"old_name": None}, "belongs to rename"),
        ("rename", {"old_name": "a b"}, "instance name"),
        ("rename", {"is_reinstall": True}, "a reinstall is a create"),
        ("export", {"transfers": ()}, "belong to export and import"),
        ("export", {"transfers": (TRANSFER, TRANSFER)}, "one twice"),
        ("import", {"transfers": (dataclasses.replace(TRANSFER, disk=1),)}, "disks that there are not"),
    ],
)
def test_what_an_action_needs_and_may_not_have(action: str, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(SAMPLES[f"OsJob-{action}"], **changed)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: dataclasses.replace(DISK, path="dev/sda"), "not absolute"),
        (lambda: dataclasses.replace(DISK, path="/dev/../etc"), "not normalised"),
        (lambda: dataclasses.replace(DISK, backend="tape"), "backend"),
        (lambda: dataclasses.replace(DISK, size_mib=-1), "size"),
        (lambda: dataclasses.replace(DISK, name="a\x1b[2J"), "not printable"),
        (lambda: dataclasses.replace(NIC, mac="AA:00:00:01:02:03"), "MAC address"),
        (lambda: dataclasses.replace(NIC, link="a b"), "link"),
        (lambda: dataclasses.replace(NIC, ip="1.2.3.4\n"), "ip"),
        (lambda: dataclasses.replace(TRANSFER, path="x"), "not absolute"),
        (lambda: dataclasses.replace(TRANSFER, disk=16), "disks 0 to 15"),
        (lambda: dataclasses.replace(INSTANCE, name="web 1"), "instance name"),
        (lambda: dataclasses.replace(INSTANCE, uuid=""), "uuid"),
        (lambda: dataclasses.replace(INSTANCE, ctime=float("nan")), "seconds"),
        (lambda: dataclasses.replace(INSTANCE, hvparams={"a b": 1}), "hypervisor parameter"),
        (lambda: dataclasses.replace(INSTANCE, hvparams={"a": 2**64}), "64 bits"),
        (lambda: dataclasses.replace(INSTANCE, beparams={"a": float("inf")}), "finite"),
        (lambda: dataclasses.replace(INSTANCE, beparams={"a": "\0"}), "not printable"),
        (lambda: dataclasses.replace(INSTANCE, disks=(DISK,) * 17), "17, limit 16"),
        (lambda: dataclasses.replace(INSTANCE, nics=(NIC,) * 9), "9, limit 8"),
    ],
)
def test_facts_that_a_script_could_stumble_over_are_refused(make: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_parameters_have_limits_of_number_and_size() -> None:
    with pytest.raises(ValueError, match="OS parameters: 101, limit 100"):
        check_parameters({f"p{number}": "" for number in range(101)})
    with pytest.raises(ValueError, match="bytes together, limit 32768"):
        check_parameters({f"p{number}": "x" * 4096 for number in range(8)})


def test_no_text_made_of_a_message_shows_a_confidential_value() -> None:
    confidential = Confidential(private={"token": "t0ken"}, secret={"password": "hush"})

    assert "t0ken" not in repr(confidential) and "hush" not in repr(confidential)
    assert "sealed" not in repr(dataclasses.replace(CREATE, private_names=(os_parameter_name("t"),)))
    with pytest.raises(ValueError) as error:
        Confidential(private={"token": "t0ken\n"})
    assert "t0ken" not in str(error.value)


def test_a_parameter_is_private_or_secret() -> None:
    with pytest.raises(ValueError, match="either private or secret"):
        Confidential(private={"a": "1"}, secret={"a": "2"})


def test_the_largest_job_fits_into_a_message() -> None:
    """The queue of a node holds several of them in one message."""
    disks = tuple(OsDisk(path=f"/{'x' * 255}/{'y' * 255}/{number}") for number in range(os_messages.DISKS_MAX))
    nics = (OsNic(mac="aa:00:00:01:02:03"),) * os_messages.NICS_MAX
    instance = OsInstance(
        **{f.name: getattr(INSTANCE, f.name) for f in dataclasses.fields(INSTANCE)} | {"disks": disks, "nics": nics}  # type: ignore[arg-type]
    )
    parameters = {f"p{number}": "x" * 4000 for number in range(8)}
    sealed = b"x" * os_messages.SEALED_BYTES_MAX
    job = OsJob(action="create", instance=instance, **{**COMMON, "parameters": parameters, "sealed": sealed})

    assert len(codec.encode(OsEnvWanted(job=job))) < codec.MESSAGE_BYTES_MAX / 4
