"""What is asked of systemd, over D-Bus: start and stop a unit, and how it is. The only importer of dbus_fast.

Blocking, for a thread: each question is a connection of its own, a few milliseconds.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from dbus_fast import AuthError, BusType, DBusError, InvalidAddressError, Message, MessageType
from dbus_fast.aio import MessageBus

from protocol.errors import Unavailable

T = TypeVar("T")

TIMEOUT_S: Final = 30.0

_SERVICE, _MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
_PATH = "/org/freedesktop/systemd1"
_GONE = "org.freedesktop.systemd1.NoSuchUnit"


class Systemd:
    """The system's manager. Unavailable with its own words if it does not do what it is asked."""

    def start(self, unit: str) -> None:
        """Return once the unit's program runs."""
        asyncio.run(_within(_start(unit)))

    def stop(self, unit: str) -> None:
        """Have the unit end; when it has is not waited for. One that has ended is no error."""
        asyncio.run(_within(_stop(unit)))

    def is_active(self, unit: str) -> bool:
        """True unless the unit has ended, or was never started."""
        return asyncio.run(_within(_is_active(unit)))


async def _within(asking: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await asking
    except TimeoutError as error:
        raise Unavailable(f"systemd does not answer within {TIMEOUT_S:g} s") from error
    except (OSError, EOFError, DBusError, AuthError, InvalidAddressError) as error:
        raise Unavailable(f"systemd cannot be asked: {error}") from error


async def _start(unit: str) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        bus.add_message_handler(lambda message: _note_job(message, ended))
        rule = f"type='signal',sender='{_SERVICE}',interface='{_MANAGER}',member='JobRemoved'"
        await _call(bus, "AddMatch", "s", rule, name="org.freedesktop.DBus", path="/org/freedesktop/DBus")
        await _call(bus, "Subscribe", "")
        job = await _call(bus, "StartUnit", "ss", unit, "fail")
        while True:
            path, result = await ended.get()
            if path == job and result == "done":
                return
            if path == job:
                raise Unavailable(f"{unit} was not started: {result}; see: systemctl status {unit}")
    finally:
        bus.disconnect()


async def _stop(unit: str) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        await _call(bus, "StopUnit", "ss", unit, "replace", passing=_GONE)
    finally:
        bus.disconnect()


async def _is_active(unit: str) -> bool:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        path = await _call(bus, "GetUnit", "s", unit, passing=_GONE)
        if path is None:
            return False
        wanted = (f"{_SERVICE}.Unit", "ActiveState")
        properties = {"path": path, "interface": "org.freedesktop.DBus.Properties"}
        state = await _call(bus, "Get", "ss", *wanted, **properties)
        return bool(state.value not in ("inactive", "failed"))
    finally:
        bus.disconnect()


async def _call(
    bus: MessageBus,
    member: str,
    signature: str,
    *body: str,
    name: str = _SERVICE,
    path: str = _PATH,
    interface: str = "",
    passing: str = "",
) -> Any:
    """Return the first value of the answer; None if the error is the one that is let pass."""
    interface = interface or (_MANAGER if name == _SERVICE else name)
    message = Message(
        destination=name, path=path, interface=interface, member=member, signature=signature, body=list(body)
    )
    answer = await bus.call(message)
    assert answer is not None, "a question has an answer"
    if answer.message_type is MessageType.ERROR:
        if passing and answer.error_name == passing:
            return None
        raise Unavailable(f"systemd refuses: {member}: {answer.body[0] if answer.body else answer.error_name}")
    return answer.body[0] if answer.body else None


def _note_job(message: Message, ended: "asyncio.Queue[tuple[str, str]]") -> None:
    if message.message_type is MessageType.SIGNAL and message.member == "JobRemoved":
        _, path, _, result = message.body
        ended.put_nowait((path, result))
