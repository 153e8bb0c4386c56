"""Both daemons as systemd sees them: ready, watched, reloaded, stopped; keys from its credentials directory."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest_asyncio

from protocol.messages import Assignment, Manifest
from protocol.names import ALL, NodeName
from protocol.nats_bus.master import NatsMasterBus
from tests.support.broker import Broker, broker
from tests.support.founded import founded
from tests.support.notices import Notices

NODE = NodeName("node2")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Broker]:
    async with broker(tmp_path / "broker") as server:
        server.set_nodes({NODE: [ALL]})
        yield server


@pytest_asyncio.fixture
async def master(server: Broker) -> AsyncIterator[NatsMasterBus]:
    keys = server.keys
    bus = NatsMasterBus(
        server.endpoint, keys.master, keys.system, lambda event: None, signer=server.signer, version="0.0.0"
    )
    await bus.open()
    await bus.prepare([ALL])
    await bus.reload_broker()
    yield bus
    await bus.close()


def settings(tmp_path: Path, server: Broker) -> Path:
    """Write an agent's settings; its key lies where systemd puts credentials, and nowhere else."""
    server.node_seed(NODE)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    key = credentials / "agent.nk"
    key.write_bytes((server.directory / "keys" / f"node-{NODE}").read_bytes())
    key.chmod(0o400)
    (tmp_path / "root").mkdir()
    (tmp_path / "master.pub").write_text("\n".join(server.trusted) + "\n")
    facts = {
        "node": NODE,
        "server": server.url,
        "ca_file": str(server.endpoint.ca_file),
        "seed_file": "agent.nk",
        "master_keys_file": "master.pub",
        "root": "root",
        "state_dir": "state",
        "allowed_paths": ["/etc"],
    }
    file = tmp_path / "agent.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()))
    return file


@contextmanager
def agent(file: Path, notices: Notices, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WATCHDOG")}
    environment |= {"NOTIFY_SOCKET": notices.address, "CREDENTIALS_DIRECTORY": str(file.parent / "credentials"), **more}
    command = [sys.executable, "-m", "node_agent", "--settings", str(file)]
    log = file.parent / "agent.log"
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, env=environment) as process:
        try:
            yield process
        except BaseException as error:
            error.add_note(log.read_text()[-3000:])
            raise
        finally:
            process.kill()


async def test_an_agent_is_ready_when_connected_and_caught_up(
    tmp_path: Path, server: Broker, master: NatsMasterBus
) -> None:
    """Connected alone is not ready; then it is watched, reloads, and says that it stops."""
    with Notices() as notices, agent(settings(tmp_path, server), notices, WATCHDOG_USEC="200000") as process:
        await asyncio.to_thread(notices.until, "STATUS=connected to tls://")
        await master.assign(Assignment(node=NODE, epoch=1, serial=1, scopes=(ALL,)))
        assert "READY=1" not in notices.heard + notices.waiting(), "there is no manifest yet"
        await master.publish(Manifest(scope=ALL, epoch=1, generation=3), [])
        await asyncio.to_thread(notices.until, "READY=1")
        assert await asyncio.to_thread(notices.until, "STATUS=up to date") == "STATUS=up to date: all 3"
        await asyncio.to_thread(notices.until, "WATCHDOG=1", 5.0)

        file = tmp_path / "agent.toml"
        good = file.read_text()
        file.write_text(good + 'allowed_paths = "nonsense\n')
        process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(notices.until, "RELOADING=1")
        await asyncio.to_thread(notices.until, "READY=1")
        assert "settings_refused" in (tmp_path / "agent.log").read_text()

        file.write_text(good.replace('"root"', '"elsewhere"'))
        process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(notices.until, "RELOADING=1")
        await asyncio.to_thread(notices.until, "READY=1")
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(notices.until, "STOPPING=1")
        assert process.wait(20) == 0


def test_settings_are_checked_without_touching_the_daemon(tmp_path: Path) -> None:
    """`systemctl reload` fails, with the sentence, before the daemon hears of it."""
    with founded(tmp_path / "root") as here:
        here.init("checked")
        for daemon, package in (("agent", "node_agent"), ("master", "master")):
            file = here.etc / f"{daemon}.toml"
            command = [sys.executable, "-m", package, "--check", "--settings", str(file)]
            assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
            file.write_text(file.read_text() + "nonsense = 1\n")
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            assert done.returncode == 78 and b"unknown setting 'nonsense'" in done.stderr


def test_a_master_is_ready_when_it_answers_and_reloads(tmp_path: Path) -> None:
    with founded(tmp_path / "root") as here, Notices() as notices:
        printed = here.init("watched").stdout
        here.start_broker(printed)
        command = [sys.executable, "-m", "master", "--settings", str(here.etc / "master.toml")]
        environment = os.environ | {"NOTIFY_SOCKET": notices.address, "WATCHDOG_USEC": "200000"}
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
            try:
                notices.until("READY=1")
                assert here.run("cluster", "info").returncode == 0
                notices.until("WATCHDOG=1", 5.0)
                assert "STATUS=serving watched" in notices.heard
                process.send_signal(signal.SIGHUP)
                notices.until("RELOADING=1")
                notices.until("READY=1")
                assert here.run("cluster", "info").returncode == 0
                process.send_signal(signal.SIGTERM)
                notices.until("STOPPING=1")
                assert process.wait(20) == 0
            finally:
                process.kill()
