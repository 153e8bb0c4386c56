"""protocol/readiness.py on a real datagram socket, as systemd has it."""

import asyncio
import os
from collections.abc import Iterator

import pytest

from protocol import readiness
from protocol.readiness import Pulse, Readiness
from tests.support.notices import Notices


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notices]:
    with Notices() as notices:
        monkeypatch.setenv("NOTIFY_SOCKET", notices.address)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield notices


async def fed(telling: Readiness, *pulses: Pulse, for_s: float = 0.1) -> None:
    """Feed the watchdog for a moment: its clock is real time and nothing else."""
    feeding = asyncio.create_task(telling.feed_watchdog(pulses))
    await asyncio.wait((feeding,), timeout=for_s)
    feeding.cancel()


def test_each_thing_is_said_once(notices: Notices) -> None:
    telling = Readiness()
    telling.say("starting")
    telling.say("starting")
    telling.ready()
    telling.ready()
    telling.stopping()
    telling.stopping()
    assert notices.waiting() == ["STATUS=starting", "READY=1", "STOPPING=1"]


def test_a_reload_ends_with_ready(notices: Notices) -> None:
    telling = Readiness()
    telling.ready()
    telling.reloading()
    telling.ready()
    first, reloading, moment, last = notices.waiting()
    assert (first, reloading, last) == ("READY=1", "RELOADING=1", "READY=1")
    assert moment.startswith("MONOTONIC_USEC=")


async def test_the_watchdog_is_fed_twice_as_often_as_it_wants(
    notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    telling = Readiness()
    telling.ready()
    await fed(telling, Pulse("a part"), for_s=0.5)
    assert notices.waiting().count("WATCHDOG=1") >= 5


async def test_who_is_starting_asks_for_patience(notices: Notices) -> None:
    """A broker that is away is no reason to be killed and started again and again."""
    telling = Readiness()
    await fed(telling)
    assert notices.waiting() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000"]
    telling.ready()
    await fed(telling)
    assert notices.waiting() == ["READY=1", "WATCHDOG=1"]


async def test_the_watchdog_starves_when_a_part_is_dead(notices: Notices) -> None:
    part = Pulse("the loop", patience_s=-1.0)
    assert part.is_alive, "a part that has not begun is not dead"
    part.beat()
    await fed(Readiness(), Pulse("another"), part)
    assert notices.waiting() == ["STATUS=no sign of life of the loop"]


async def test_the_watchdog_of_another_process_is_not_fed_more_often(
    notices: Notices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    await fed(Readiness())
    assert notices.waiting().count("WATCHDOG=1") == 1


def test_nobody_listens_and_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@gnt-mesh-nobody-listens")
    readiness.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    readiness.notify("READY=1")


def test_a_listener_that_does_not_read_holds_nobody_up(notices: Notices) -> None:
    for number in range(5000):
        readiness.notify(f"STATUS={number}")
    assert notices.waiting()[0] == "STATUS=0"
