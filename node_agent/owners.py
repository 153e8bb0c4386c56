"""Users and groups as this node knows them: numbers on the disk, names in a manifest."""

import grp
import os
import pwd
import stat
from collections.abc import Callable
from typing import Final

from node_agent.core.reconcile import Found
from node_agent.tree import Impediment
from protocol.names import Digest

ID_MAX: Final = 2**32 - 2
"""The number after it means "leave as it is" to chown."""


class Owners:
    """Looks each user and group up once, so it lives no longer than one look or one plan."""

    def __init__(self) -> None:
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._uids: dict[str, int] = {}
        self._gids: dict[str, int] = {}

    def user(self, uid: int) -> str:
        """Return the user's name, or the number as decimal text if it has none."""
        return _named(self._users, uid, lambda: pwd.getpwuid(uid).pw_name)

    def group(self, gid: int) -> str:
        """Return the group's name, or the number as decimal text if it has none."""
        return _named(self._groups, gid, lambda: grp.getgrgid(gid).gr_name)

    def uid(self, text: str) -> int:
        """Return the number of a user. Impediment if this node has none, or calls it by another name.

        A file of a user with two names would differ from its manifest for ever, and be written for ever. A number
        is itself, whether or not it has a name here: the master has none for it, and others may.
        """
        if text not in self._uids:
            number = _number(text)
            if number is None:
                number = _looked_up("user", text, lambda: pwd.getpwnam(text).pw_uid)
                _check_spelling("user", text, self.user(number))
            self._uids[text] = number
        return self._uids[text]

    def gid(self, text: str) -> int:
        """Return the number of a group. Impediment as for a user."""
        if text not in self._gids:
            number = _number(text)
            if number is None:
                number = _looked_up("group", text, lambda: grp.getgrnam(text).gr_gid)
                _check_spelling("group", text, self.group(number))
            self._gids[text] = number
        return self._gids[text]


def as_found(status: os.stat_result, digest: Digest, size_bytes: int, owners: Owners) -> Found:
    """Return what is known of a regular file as reconcile compares it."""
    return Found(
        "file",
        digest=digest,
        size_bytes=size_bytes,
        mode=stat.S_IMODE(status.st_mode),
        owner=owners.user(status.st_uid),
        group=owners.group(status.st_gid),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def _named(known: dict[int, str], number: int, look_up: Callable[[], str]) -> str:
    if number not in known:
        try:
            known[number] = look_up()
        except KeyError:
            known[number] = str(number)
    return known[number]


def _number(text: str) -> int | None:
    """Return the number that a text is, None if it is a name."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(ID_MAX)) and int(text) <= ID_MAX
    return int(text) if is_number else None


def _looked_up(what: str, text: str, look_up: Callable[[], int]) -> int:
    try:
        return look_up()
    except (KeyError, ValueError):
        raise Impediment(f"this node has no {what} {text[:80]!r}") from None


def _check_spelling(what: str, text: str, name: str) -> None:
    if text != name:
        raise Impediment(f"the {what} {text[:80]!r} is called {name[:80]!r} on this node")
