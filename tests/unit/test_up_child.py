"""One program kept running, with stand-in programs in place of daemons: readiness, restarts, the end."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from master.up.child import CONFIGURATION_ERROR, LOG_BYTES_MAX, PAUSES_S, Program, how_it_ended, pause_after
from master.up.supervisor import Supervisor
from protocol.errors import Refused
from tests.support.waiting import until

READY = "from protocol import readiness; readiness.notify('READY=1');"
FOR_EVER = "import signal; signal.pause()"
TIMEOUT_S = 20


class Stage:
    """A supervisor, its directory, and what it said."""

    def __init__(self, directory: Path, supervisor: Supervisor, said: asyncio.Queue[str]) -> None:
        self.directory = directory
        self.supervisor = supervisor
        self.said = said

    def program(self, code: str, name: str = "daemon", *, is_vital: bool = False, early: bool = False) -> Program:
        return Program(
            name=name,
            argv=(sys.executable, "-c", code),
            log=self.directory / f"{name}.log",
            pid_file=self.directory / f"{name}.pid",
            is_vital=is_vital,
            gives_up_early=early,
        )

    def pid(self, name: str = "daemon") -> int:
        return int((self.directory / f"{name}.pid").read_text())

    def log(self, name: str = "daemon") -> str:
        return (self.directory / f"{name}.log").read_text()


@asynccontextmanager
async def stage(directory: Path, **environment: str) -> AsyncIterator[Stage]:
    said: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.timeout(TIMEOUT_S):
        async with Supervisor(environment={"PATH": os.defpath, **environment}, say=said.put_nowait) as supervisor:
            yield Stage(directory, supervisor, said)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_pauses_grow_from_nothing_to_ten_seconds() -> None:
    assert [pause_after(deaths) for deaths in range(1, len(PAUSES_S) + 3)] == [*PAUSES_S, 10.0, 10.0]
    assert PAUSES_S[0] == 0
    assert list(PAUSES_S) == sorted(PAUSES_S)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with 0"), (78, "exited with 78"), (-9, "was killed by SIGKILL"), (-34, "was killed by SIGRTMIN")],
)
def test_an_exit_status_is_told_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


async def test_a_child_is_ready_when_it_says_so(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        await it.supervisor.start(it.program(READY + FOR_EVER)).until_ready()
        assert is_alive(it.pid())


async def test_only_the_child_itself_is_believed(tmp_path: Path) -> None:
    """Anybody may send to an abstract socket; the kernel says who did."""
    lied = tmp_path / "lied"
    os.mkfifo(lied)
    liar = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {READY!r}]); open({str(lied)!r}, 'w').close()"
    )
    async with stage(tmp_path) as it:
        waiting = asyncio.create_task(it.supervisor.start(it.program(f"{liar}; {FOR_EVER}")).until_ready())
        await asyncio.to_thread(lied.read_text)
        done, _ = await asyncio.wait((waiting,), timeout=0.05)
        assert not done
        waiting.cancel()


async def test_leaving_stops_every_child(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        for name in ("one", "two", "master", "nats-server"):
            await it.supervisor.start(it.program(READY + FOR_EVER, name)).until_ready()
        pids = [it.pid(name) for name in ("one", "two", "master", "nats-server")]
    assert not any(map(is_alive, pids))
    assert not list(tmp_path.glob("*.pid"))


async def test_the_master_is_stopped_after_the_agents_and_the_broker_last(tmp_path: Path) -> None:
    log = tmp_path / "ends"
    code = (
        "import signal, sys;"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(log)!r}, 'a').write(sys.argv[1] + '\\n'), sys.exit(0)));"
    )
    async with stage(tmp_path) as it:
        for name in ("nats-server", "master", "node1"):
            program = it.program(code + READY + FOR_EVER, name)
            named = Program(name=name, argv=(*program.argv, name), log=program.log, pid_file=program.pid_file)
            await it.supervisor.start(named).until_ready()
    assert log.read_text().split() == ["node1", "master", "nats-server"]


async def test_a_child_that_is_stopped_by_a_signal_still_ends(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        await it.supervisor.start(it.program(READY + FOR_EVER)).until_ready()
        os.kill(it.pid(), signal.SIGSTOP)


async def test_a_deaf_child_is_killed_when_patience_ends(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    async with stage(tmp_path) as it:
        await it.supervisor.start(it.program(deaf + READY + FOR_EVER)).until_ready()
        it.supervisor.kill()


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        await it.supervisor.start(it.program(READY + FOR_EVER)).until_ready()
        first = it.pid()
        os.kill(first, signal.SIGKILL)
        assert await it.said.get() == "daemon was killed by SIGKILL; it is started again now"
        second = await asyncio.to_thread(until, lambda: (tmp_path / "daemon.pid").exists() and it.pid(), near=tmp_path)
        assert second != first


async def test_one_that_dies_again_and_again_has_to_wait(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        it.supervisor.start(it.program("raise SystemExit(3)"))
        assert await it.said.get() == "daemon exited with 3; it is started again now"
        assert await it.said.get() == "daemon exited with 3; it is started again in 0.5 s"
        assert await it.said.get() == "daemon exited with 3; it is started again in 1 s"


async def test_a_configuration_error_is_final_and_told(tmp_path: Path) -> None:
    code = f"import sys; sys.stderr.write('x.toml: no server\\n'); sys.exit({CONFIGURATION_ERROR})"
    async with stage(tmp_path) as it:
        child = it.supervisor.start(it.program(code))
        with pytest.raises(Refused, match=r"daemon exited with 78: x.toml: no server; see .*daemon.log"):
            await child.until_ready()
        assert "not started again before the next gnt-mesh up" in await it.said.get()
        await child.keeping


async def test_what_everything_waits_for_is_told_by_who_waits(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        child = it.supervisor.start(it.program(f"raise SystemExit({CONFIGURATION_ERROR})", is_vital=True))
        with pytest.raises(Refused, match="it said nothing"):
            await child.until_ready()
        assert it.said.empty()


async def test_a_program_without_an_exit_code_for_it_is_given_up_if_it_was_never_ready(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        child = it.supervisor.start(it.program("raise SystemExit('port in use')", early=True))
        with pytest.raises(Refused, match="exited with 1: port in use"):
            await child.until_ready()


async def test_a_program_that_cannot_be_executed_is_tried_again(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        it.supervisor.start(
            Program(name="x", argv=(str(tmp_path / "none"),), log=tmp_path / "x.log", pid_file=tmp_path / "x.pid")
        )
        assert await it.said.get() == "x exited with 127; it is started again now"
        assert f"{tmp_path}/none: No such file or directory" in it.log("x")


async def test_a_child_knows_and_holds_nothing_but_its_own(tmp_path: Path) -> None:
    """No secret of the environment and no open file of ours travels on."""
    code = (
        "import os, pathlib; print(*sorted(os.environ));"
        "print(*(fd for fd in range(3, 256) if pathlib.Path(f'/proc/self/fd/{fd}').is_symlink()));"
        "print(os.getsid(0) == os.getpid());"
    )
    with (tmp_path / "held").open("w"):
        async with stage(tmp_path, SECRET="x", LANG="C.UTF-8", NOTIFY_SOCKET="@other") as it:
            await it.supervisor.start(it.program(code + READY + FOR_EVER)).until_ready()
            names, files, is_leader = it.log().split("\n")[:3]
    assert names.split() == ["LANG", "NOTIFY_SOCKET", "PATH", "PYTHONUNBUFFERED"]
    assert files == ""
    assert is_leader == "True"


async def test_a_long_log_is_moved_away_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "daemon.log").write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    async with stage(tmp_path) as it:
        await it.supervisor.start(it.program("print('new');" + READY + FOR_EVER)).until_ready()
        assert it.log() == "new\n"
    assert (tmp_path / "daemon.log.1").stat().st_size == LOG_BYTES_MAX + 1


async def test_a_mistake_of_ours_in_keeping_a_child_is_not_silent(tmp_path: Path) -> None:
    async with stage(tmp_path) as it:
        program = it.program(READY + FOR_EVER)
        it.supervisor.start(Program(name="x", argv=(*program.argv, "\0"), log=program.log, pid_file=program.pid_file))
        with pytest.raises(ValueError, match="null byte"):
            await it.supervisor.until_fault()
