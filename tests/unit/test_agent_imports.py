"""What an agent does not carry around, on thousands of nodes."""

import subprocess
import sys


def test_an_agent_does_without_what_only_people_need() -> None:
    """4 MB for rich alone, which structlog imports where it finds it."""
    program = (
        "import sys, node_agent.__main__\n"
        "heavy = {'rich', 'pygments', 'click', 'aiohttp', 'cryptography'} & set(sys.modules)\nassert not heavy, heavy\n"
        "import rich"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True)

    assert done.returncode == 0, done.stderr.decode()
