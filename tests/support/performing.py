"""Performs one plan in a process of its own, so that a tool can stand between it and the kernel; prints the outcome.

python -m tests.support.performing DIRECTORY
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.support.node_tree import NodeTree, a_removal


def main(directory: Path) -> None:
    tree = NodeTree(directory)
    outcome = asyncio.run(
        tree.perform(
            tree.write("/etc/x", b"new x", keep_backup=True),
            tree.write("/etc/y", b"new y"),
            a_removal("/etc/z"),
        )
    )
    answer = json.dumps({"found": sorted(outcome.found), "errors": dict(outcome.errors)})
    os.writev(sys.stdout.fileno(), [answer.encode()])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
