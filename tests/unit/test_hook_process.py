"""master/hook_process.py: a stranger's program within its limits, and nothing of it left behind."""

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.hook_process import HookFailed, HookProcess

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "GNT_MESH_CLUSTER": "test"}
LONG_S = 60.0
"""A limit that no test here reaches; those about the limit set their own."""


def a_hook(tmp_path: Path, script: str, *, shebang: str = "#!/bin/sh") -> Path:
    path = tmp_path / "hook"
    path.write_text(f"{shebang}\n{script}\n")
    path.chmod(0o755)
    return path


def answer(program: Path, told: bytes = b"{}", *, timeout_s: float = LONG_S, output_bytes_max: int = 1000) -> bytes:
    return HookProcess(timeout_s=timeout_s, output_bytes_max=output_bytes_max).run(program, told, ENVIRONMENT)


def test_what_it_prints_is_the_answer(tmp_path: Path) -> None:
    assert answer(a_hook(tmp_path, "echo one; echo two")) == b"one\ntwo\n"
    assert answer(a_hook(tmp_path, "true")) == b""


def test_it_is_told_everything_on_its_standard_input(tmp_path: Path) -> None:
    """Also more than a pipe holds."""
    told = os.urandom(500_000).hex().encode()

    assert answer(a_hook(tmp_path, "exec wc -c"), told).strip() == b"1000000"
    assert answer(a_hook(tmp_path, "exec cat"), told, output_bytes_max=len(told)) == told


def test_it_need_not_read_what_it_is_told(tmp_path: Path) -> None:
    assert answer(a_hook(tmp_path, "exec <&-; echo ok"), b"x" * 1_000_000) == b"ok\n"


def test_it_gets_the_environment_that_was_given_and_nothing_else(tmp_path: Path) -> None:
    output = answer(a_hook(tmp_path, "exec env")).decode().splitlines()

    assert {line.partition("=")[0] for line in output} - {"PWD", "SHLVL", "_", "OLDPWD"} == set(ENVIRONMENT)


def test_it_has_a_session_of_its_own_and_no_file_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        script = "import os; print(os.getsid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd'))[:3], os.getcwd())"
        output = answer(a_hook(tmp_path, script, shebang="#!/usr/bin/env python3")).decode()
        open_files = answer(a_hook(tmp_path, "ls -l /proc/self/fd"), output_bytes_max=10_000).decode()

    assert output == "True ['0', '1', '2'] /\n"
    assert str(tmp_path / "secret") not in open_files


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo '{}'; exit 3", "ended with exit status 3"),
        ("echo no such database >&2; exit 1", "ended with exit status 1: no such database"),
        ("kill -TERM $$", "was killed by signal 15"),
        ("nonsense_command", "ended with exit status 127: .*nonsense_command"),
    ],
)
def test_a_failure_is_told_with_its_last_words(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(HookFailed, match=f"^{reason}"):
        answer(a_hook(tmp_path, script))


def test_last_words_are_short_and_text(tmp_path: Path) -> None:
    """A megabyte of nonsense on standard error neither stops it nor gets into a status."""
    script = "head -c 1000000 /dev/urandom | tr '\\n' x >&2; exit 1"

    with pytest.raises(HookFailed) as failure:
        answer(a_hook(tmp_path, script))
    assert len(str(failure.value)) < 400


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("#!/no/such/interpreter\n"), "cannot be started: No such file"),
        (lambda path: path.write_bytes(b"\x00\x01\x02"), "cannot be started: Exec format error"),
        (lambda path: path.mkdir(), "cannot be started: Permission denied"),
        (lambda path: None, "cannot be started: No such file"),
    ],
)
def test_what_cannot_be_started_is_a_failure(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "hook"
    make(path)  # type: ignore[operator]
    if path.is_file():
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    with pytest.raises(HookFailed, match=reason):
        answer(path)


def test_a_hundred_megabytes_are_cut_off_at_the_limit(tmp_path: Path) -> None:
    """Ended at once, not read to the end."""
    with pytest.raises(HookFailed, match="printed more than 1000 bytes"):
        answer(a_hook(tmp_path, "head -c 100000000 /dev/zero; touch done"))


def test_exactly_the_limit_is_an_answer(tmp_path: Path) -> None:
    assert len(answer(a_hook(tmp_path, "head -c 1000 /dev/zero"))) == 1000


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Path]:
    """A FIFO: who holds its writing end open is alive, and reading it ends when nobody does any more."""
    path = tmp_path / "witness"
    os.mkfifo(path)
    yield path


def wait_until_nobody_holds(witness: Path) -> None:
    reader = threading.Thread(target=witness.read_bytes, daemon=True)
    reader.start()
    reader.join(30)
    assert not reader.is_alive(), "something of the hook is still running"


def test_a_hook_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path, witness: Path) -> None:
    holder = threading.Thread(target=lambda: wait_until_nobody_holds(witness))
    holder.start()
    with pytest.raises(HookFailed, match=r"did not finish within 0\.5 s"):
        answer(a_hook(tmp_path, f"exec 7>{witness}; sleep 1000 & sleep 1000"), timeout_s=0.5)
    holder.join(30)
    assert not holder.is_alive()


def test_what_a_hook_leaves_behind_is_killed_and_not_waited_for(tmp_path: Path, witness: Path) -> None:
    """Its output pipe is still open in the other program, which would keep a reader that waits for its end."""
    holder = threading.Thread(target=lambda: wait_until_nobody_holds(witness))
    holder.start()

    assert answer(a_hook(tmp_path, f"exec 7>{witness}; sleep 1000 & echo ok")) == b"ok\n"

    holder.join(30)
    assert not holder.is_alive()


def test_what_has_fled_into_a_session_of_its_own_is_not_waited_for(tmp_path: Path) -> None:
    began_s = time.monotonic()

    assert answer(a_hook(tmp_path, "setsid sleep 20 & echo ok")) == b"ok\n"

    assert time.monotonic() - began_s < 15


def test_an_abandoned_hook_ends_at_once(tmp_path: Path, witness: Path) -> None:
    """The master stops: nobody waits for the rest of the hook's time."""
    process = HookProcess(timeout_s=LONG_S, output_bytes_max=1000)
    ended: list[str] = []

    def run() -> None:
        try:
            process.run(a_hook(tmp_path, f"exec 7>{witness}; sleep 1000"), b"", ENVIRONMENT)
        except HookFailed as failure:
            ended.append(str(failure))

    thread = threading.Thread(target=run)
    thread.start()
    with witness.open("rb") as alive:
        process.abandon()
        thread.join(30)
        assert alive.read() == b""
    assert ended
