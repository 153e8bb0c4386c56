"""`python -m tests.nodes [--where-possible] [WORDS FOR PYTEST]`: the tests on real systemd, in a lab on this machine.

Where there can be no lab it says why, and fails; with --where-possible that is no failure.
"""

import os
import sys
from pathlib import Path

from tests.support.nodes import outside

WHERE_POSSIBLE = "--where-possible"


def main() -> int:
    arguments = [word for word in sys.argv[1:] if word != WHERE_POSSIBLE]
    reason = outside.missing()
    if reason:
        is_no_failure = WHERE_POSSIBLE in sys.argv
        sys.stderr.write(f"test-nodes: {'skipped, ' if is_no_failure else ''}{reason}\n")
        return 0 if is_no_failure else 1
    if not any(word.startswith("tests/") for word in arguments):
        arguments = [os.path.relpath(Path(__file__).parent), *arguments]
    return outside.run_inside([sys.executable, "-m", "pytest", *arguments])


if __name__ == "__main__":
    sys.exit(main())
