"""deploy/systemd: what an intruder could still do from within each unit, by systemd's own count."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"
EXPOSURE_MAX = {
    "gnt-mesh-helper.service": 2.5,
    "gnt-mesh-os@.service": 4.0,
}


@pytest.mark.parametrize(("unit", "exposure_max"), EXPOSURE_MAX.items())
def test_a_unit_is_closed_as_far_as_it_can_be(unit: str, exposure_max: float) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNITS / unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found and float(found[1]) <= exposure_max, said[-2000:]


def test_a_job_outlives_everything_but_its_node() -> None:
    unit = (UNITS / "gnt-mesh-os@.service").read_text()
    assert not re.search(r"^(PartOf|BindsTo|Requires)=", unit, re.M)
