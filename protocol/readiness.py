"""Tells whoever started this process how it is: systemd, or `gnt-mesh up`, by the same datagrams (sd_notify)."""

import os
import socket


def notify(state: str) -> None:
    """Send a state such as `READY=1` or `STATUS=text`; nothing happens if nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
        try:
            datagrams.sendto(state.encode(), address)
        except OSError:
            return  # the asker is gone; a daemon lives on without it
