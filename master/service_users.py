"""The users that the package makes for the daemons of the first node, and what of its files is the master's.

Where there are none, as without the package, everything stays with who ran `cluster init`.
"""

import os
import pwd
from pathlib import Path
from typing import Final

MASTER: Final = "gnt-mesh-master"


def hand_over(*paths: Path) -> None:
    """Let the master's user own files, and directories with what is in them, which has the directory's group then."""
    try:
        user = pwd.getpwnam(MASTER)
    except KeyError:
        return
    for path in paths:
        files = (path, *path.iterdir()) if path.is_dir() else (path,)
        group = path.stat().st_gid if path.is_dir() else user.pw_gid
        for one in files:
            os.chown(one, user.pw_uid, group, follow_symlinks=False)
