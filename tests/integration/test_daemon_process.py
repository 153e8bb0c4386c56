"""The daemons as processes of their own: settings, logs, exit codes; without a mesh around them."""

import asyncio
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from master import certificates
from master.certificates import Pair
from node_agent.core.events import Memory
from node_agent.core.reconcile import Known
from node_agent.ledger import Ledger
from protocol import identity
from protocol.names import ALL, Digest, ManagedPath
from tests.support.old_server import old_server
from tests.support.values import a_public_key

SETTINGS = """
node = "node2"
server = "tls://127.0.0.1:1"
ca_file = "ca.pem"
seed_file = "agent.nk"
master_keys_file = "master.pub"
root = "root"
state_dir = "state"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """An agent's settings that point at nobody."""
    identity.ensure_seed(tmp_path / "agent.nk")
    certificates.ensure_authority(Pair(tmp_path / "ca.key", tmp_path / "ca.pem"), "nobody")
    file = tmp_path / "agent.toml"
    (tmp_path / "master.pub").write_text(f"{a_public_key('master')}\n")
    file.write_text(SETTINGS)
    return file


@contextmanager
def agent(settings: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "node_agent", "--settings", str(settings), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: "subprocess.Popen[bytes]") -> str:
    """Return the next line on stderr."""
    assert process.stderr
    readable, _, _ = select.select([process.stderr], [], [], 30)
    assert readable, "nothing on stderr within 30 s"
    return process.stderr.readline().decode()


def test_logs_are_json_when_asked_for(settings: Path) -> None:
    with agent(settings, "--log-format", "json") as process:
        entry = json.loads(line_of(process))
    assert entry["event"] == "agent_started" and entry["node"] == "node2" and entry["level"] == "info"
    assert "timestamp" in entry


def test_logs_are_key_value_for_people(settings: Path) -> None:
    with agent(settings, "--log-format", "console") as process:
        line = line_of(process)
    assert "event=agent_started" in line and "node=node2" in line


def test_logs_are_json_under_systemd(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    with agent(settings) as process:
        assert json.loads(line_of(process))["event"] == "agent_started"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_also_while_no_server_answers(settings: Path, number: signal.Signals) -> None:
    with agent(settings) as process:
        line_of(process)
        process.send_signal(number)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "node"),
        ("node = 7", "node"),
        ("nonsense = 1", "unknown setting 'nonsense'"),
        ("node = ", "not valid TOML"),
        (SETTINGS.replace("node2", "a_b"), "a_b"),
        (SETTINGS.replace("agent.nk", "none.nk"), "none.nk"),
        (SETTINGS.replace("master.pub", "none.pub"), "none.pub"),
    ],
)
def test_settings_at_fault_end_it_with_78_and_one_sentence(settings: Path, text: str, says: str) -> None:
    settings.write_text(text)
    with agent(settings) as process:
        _, errors = process.communicate(timeout=30)
        lines = [line for line in errors.decode().splitlines() if "event=" not in line]
    assert process.returncode == 78
    assert len(lines) == 1 and says in lines[0], lines


def test_a_seed_that_others_can_read_is_refused(settings: Path) -> None:
    (settings.parent / "agent.nk").chmod(0o644)
    with agent(settings) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 78 and b"chmod 600" in errors


def test_a_damaged_ledger_is_refused_and_kept(settings: Path) -> None:
    """It decides what may be removed: without it the agent must not guess."""
    ledger = settings.parent / "state/ledger.json"
    ledger.parent.mkdir()
    ledger.write_bytes(b'{"serial": [1,')
    with agent(settings) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 78 and b"ledger.json is damaged" in errors
    assert ledger.read_bytes() == b'{"serial": [1,'


def test_leftovers_of_a_killed_write_are_swept_at_the_start(settings: Path) -> None:
    managed = settings.parent / "root/etc/ganeti"
    managed.mkdir(parents=True)
    (managed / ".gnt-mesh.0123456789abcdef.tmp").write_text("half")
    (settings.parent / "state").mkdir()
    Ledger(settings.parent / "state").save(Memory(known={ManagedPath("/etc/ganeti/x"): Known(ALL, Digest("0" * 64))}))
    with agent(settings) as process:
        assert "swept=1" in line_of(process)
    assert list(managed.iterdir()) == []


async def test_a_server_that_is_too_old_is_refused_at_the_start(settings: Path) -> None:
    """Design, D6: below 2.12.7 by its version, not by what fails later."""
    authority = Pair(settings.parent / "ca.key", settings.parent / "ca.pem")
    async with old_server("2.10.26", settings.parent, authority=authority) as server:
        settings.write_text(settings.read_text().replace("tls://127.0.0.1:1", server.endpoint.url))
        command = [sys.executable, "-m", "node_agent", "--settings", str(settings)]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        async with asyncio.timeout(30):
            _, errors = await process.communicate()
    assert process.returncode == 78
    assert b"2.10.26" in errors and b"2.12.7" in errors
