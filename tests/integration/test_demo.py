"""`make demo` tests itself; here it is run, so that it still holds when somebody watches it."""

import subprocess
import sys
from pathlib import Path

from tests.support.mesh import environment

DEMO = Path(__file__).parents[2] / "examples/demo.py"


def test_the_demo_keeps_every_promise_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEMO],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment(TMPDIR=str(tmp_path)),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert list(tmp_path.iterdir()) == []
