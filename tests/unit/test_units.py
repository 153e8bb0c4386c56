"""The units of deploy/systemd, as systemd itself reads them, without one that runs."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"
INSTALLED = "/usr/lib/gnt-mesh/bin/"
BROKER = "gnt-mesh-nats.service"
EXPOSURE_MAX = {
    BROKER: 1.5,
    "gnt-mesh-master.service": 1.5,
    "gnt-mesh-agent.service": 1.5,
    "gnt-mesh-helper.service": 2.5,
    "gnt-mesh-rollback@.service": 2.5,
    "gnt-mesh-os@.service": 4.0,
}
DAEMONS = (BROKER, "gnt-mesh-master.service", "gnt-mesh-agent.service", "gnt-mesh-helper.service")
NEWER_THAN_252 = re.compile(
    r"^(Type=notify-reload|OpenFile|ImportCredential|RestartSteps|RestartMaxDelaySec|PrivatePIDs|ReloadSignal)\b"
)
"""Debian 12 takes no notice of them, or worse: a unit of type notify-reload becomes a simple one."""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here: on Debian, apt install systemd"
)


def units() -> list[Path]:
    return [path for path in sorted(UNITS.iterdir()) if path.suffix in (".service", ".socket", ".target", ".slice")]


def section(unit: str, name: str) -> dict[str, str]:
    """Return the last value of every key of a section."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / unit)
    return dict(parser[name])


def analyze(*args: str) -> str:
    done = subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, check=False, timeout=60)
    return f"{done.stdout}{done.stderr}exit code {done.returncode}"


@needs_analyze
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    """Verify wants the programs to be there, so they are, elsewhere."""
    programs = tmp_path / "bin"
    programs.mkdir()
    copies = []
    for unit in units():
        text = unit.read_text()
        for name in re.findall(rf"{INSTALLED}([\w.-]+)", text):
            (programs / name).touch(mode=0o755)
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text.replace(INSTALLED, f"{programs}/"))

    assert analyze("verify", "--man=no", "--recursive-errors=no", *map(str, copies)) == "exit code 0"


@needs_analyze
@pytest.mark.parametrize("unit", EXPOSURE_MAX)
def test_a_daemon_is_exposed_no_more_than_it_has_to_be(unit: str) -> None:
    told = analyze("security", "--offline=yes", str(UNITS / unit))

    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", told)
    assert found is not None, told
    assert float(found[1]) <= EXPOSURE_MAX[unit], told


@pytest.mark.parametrize("unit", units(), ids=lambda path: path.name)
def test_debian_12_knows_every_key(unit: Path) -> None:
    assert [line for line in unit.read_text().splitlines() if NEWER_THAN_252.match(line)] == []


@pytest.mark.parametrize("unit", DAEMONS)
def test_a_daemon_is_started_again_for_as_long_as_it_takes(unit: str) -> None:
    """No outage can trip a start limit, and the loss of nats-server takes nobody along."""
    assert section(unit, "Unit")["StartLimitIntervalSec"] == "0"
    assert section(unit, "Service")["Restart"] == "always"
    assert section(unit, "Unit")["PartOf"] == "gnt-mesh.target"
    for bond in ("Requires", "Requisite", "BindsTo", "PartOf"):
        assert BROKER not in section(unit, "Unit").get(bond, "")


@pytest.mark.parametrize("unit", DAEMONS)
def test_one_target_serves_every_node(unit: str) -> None:
    started = {unit, unit.replace(".service", ".socket")}
    assert started & set((UNITS / "gnt-mesh.target").read_text().replace("=", " ").split())
    assert section(unit, "Unit")["ConditionPathExists"].startswith("/etc/gnt-mesh/")


@pytest.mark.parametrize("unit", ["gnt-mesh-master.service", "gnt-mesh-agent.service"])
def test_a_configuration_error_is_left_to_the_administrator(unit: str) -> None:
    assert section(unit, "Service")["RestartPreventExitStatus"] == "78"


def test_a_job_outlives_everything_but_its_node() -> None:
    unit = section("gnt-mesh-os@.service", "Unit")
    assert {"PartOf", "BindsTo", "Requires"} & unit.keys() == set()
