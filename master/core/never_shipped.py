"""Files that belong to one machine and never travel, whoever asks for them: a list, a hook, a hypervisor parameter.

The agents refuse the mesh's own files and the accounts again, by a list of their own.
"""

from typing import Final

_ACCOUNTS = "it holds the accounts of one machine"
_OWN = "it belongs to the mesh itself: keys, settings and records of one machine"
_RUNNING = "nothing below it is a file on a disk"
_IDENTITY = "it says which machine this is"

FILES: Final = {
    **{
        f"/etc/{name}{suffix}": _ACCOUNTS
        for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
        for suffix in ("", "-")
    },
    "/etc/hostname": _IDENTITY,
    "/etc/machine-id": _IDENTITY,
    "/var/lib/ganeti/client.pem": "every node has one of its own",
}

DIRECTORIES: Final = {
    "/dev": _RUNNING,
    "/etc/gnt-mesh": _OWN,
    "/proc": _RUNNING,
    "/run": _RUNNING,
    "/sys": _RUNNING,
    "/var/lib/gnt-mesh": _OWN,
    "/var/run": _RUNNING,
}


def why_never_shipped(path: str) -> str:
    """Return why a file must not travel, empty if it may."""
    if path in FILES:
        return FILES[path]
    return next((why for directory, why in DIRECTORIES.items() if f"{path}/".startswith(f"{directory}/")), "")
