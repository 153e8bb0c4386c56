"""Who is asking: user@host, for the history. The master takes our word for it."""

import os
import pwd
import socket
from contextlib import suppress
from pathlib import Path

from protocol.change_messages import BY_CHARS_MAX

LOGIN_ID = Path("/proc/self/loginuid")
NO_LOGIN = 2**32 - 1


def asker(login_id: Path = LOGIN_ID) -> str:
    """Return user@host; with the name that was logged in with, if `su` or `sudo` has changed it since."""
    user, login = _name(os.geteuid()), ""
    with suppress(OSError, ValueError):
        uid = int(login_id.read_text())
        login = "" if uid in (NO_LOGIN, os.geteuid()) else f"{_name(uid)} as "
    return _printable(f"{login}{user}@{socket.gethostname()}")[:BY_CHARS_MAX]


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
