"""A node whose agent is `nobody` and whose helper is root, in a real cluster: all of it works as unsplit."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol import identity
from tests.support.founded import Founded, founded
from tests.support.other_user import OTHER, as_other_user, open_directory
from tests.support.waiting import until, until_holds

HELLO = Path(__file__).parents[2] / "examples/os/hello"
SECRET = "/var/lib/ganeti/rapi.pem"


class Split:
    """A founded cluster, and its second node: two processes, of two users."""

    def __init__(self, directory: Path, here: Founded) -> None:
        self.here = here
        self.root = directory / "second"
        self.etc = self.root / "etc/gnt-mesh"
        self.state_dir = self.root / "var/lib/gnt-mesh"
        self.export = directory / "export"
        self.helper: subprocess.Popen[bytes]
        self.agent: subprocess.Popen[bytes]

    def found(self) -> None:
        made = self.here.init("mesh1", "--node", "node1", "-C", "1")
        assert made.returncode == 0, made.stderr
        self.here.start(made.stdout)
        key = self.here.add_node("node2", self.root)
        self.ok("node", "add", "node2", "--public-key", key)
        settings = self.etc / "agent.toml"
        with settings.open("a") as file:
            file.write(
                f'helper_socket = "{self.root}/helper.sock"\nhelper_state_dir = "{self.state_dir}/helper"\n'
                f'agent_user = "{OTHER}"\ntransfer_paths = ["{self.export}"]\n'
                "watch_step_ms = 20\nretry_first_s = 0.2\nbeat_interval_s = 1.0\n"
            )
        for name in ("agent.toml", "ca.pem", "master.pub"):
            (self.etc / name).chmod(0o644)
        shutil.copytree(HELLO, self.root / "srv/ganeti/os/hello")
        own = self.state_dir / "agent"
        own.mkdir(parents=True)
        os.chown(own, pwd.getpwnam(OTHER).pw_uid, -1)
        (self.root / "etc/ganeti").mkdir(mode=0o700, exist_ok=True)
        self.start_helper()
        self.start_agent()

    def start_helper(self) -> None:
        command = [sys.executable, "-m", "node_agent.privileged", "--settings", str(self.etc / "agent.toml")]
        self.helper = self.here.start_daemon(command)

    def start_agent(self) -> None:
        """As systemd does: the key is in a directory of credentials, and where it lies nobody can read it."""
        credentials = self.root / "credentials"
        credentials.mkdir(exist_ok=True)
        key = credentials / "agent.nk"
        key.write_bytes((self.etc / "agent.nk").read_bytes())
        os.chown(key, pwd.getpwnam(OTHER).pw_uid, -1)
        key.chmod(0o400)
        command = [sys.executable, "-m", "node_agent", "--settings", str(self.etc / "agent.toml")]
        self.agent = self.here.start_daemon([*as_other_user(), *command], CREDENTIALS_DIRECTORY=str(credentials))

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(20)

    def source(self, path: str, text: str, mode: int = 0o644) -> None:
        """Edit a file on the master."""
        file = self.here.root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.edit")
        new.write_text(text)
        new.chmod(mode)
        new.replace(file)

    def there(self, path: str) -> Path:
        return self.root / path[1:]

    def ok(self, *line: str) -> str:
        done = self.here.run(*line)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *line: str) -> Any:
        return self.here.json(*line)


@pytest.fixture(scope="module")
def split() -> Iterator[Split]:
    as_other_user()
    with open_directory() as directory, founded(directory / "first") as here:
        mesh = Split(directory, here)
        try:
            mesh.found()
            yield mesh
        except BaseException as error:
            for log in here.root.glob("*.log"):
                error.add_note(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}")
            raise


def test_the_agent_is_nobody_and_can_touch_nothing(split: Split) -> None:
    status = Path(f"/proc/{split.agent.pid}/status").read_text()
    uid = str(pwd.getpwnam(OTHER).pw_uid)
    found = re.search(r"^Uid:\s+(.*)$", status, re.M)
    assert found and set(found[1].split()) == {uid}
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M)
    for private in (split.etc / "agent.nk", split.state_dir / "helper", split.root / "etc/ganeti"):
        assert private.stat().st_uid == 0 and not private.stat().st_mode & 0o077


def test_an_edit_arrives_with_content_mode_and_owner(split: Split) -> None:
    split.source("/etc/ganeti/private", "one\n", 0o600)
    split.ok("file", "add", "/etc/ganeti/private", "--scope", "all")
    arrived = split.there("/etc/ganeti/private")
    assert arrived.read_text() == "one\n"
    assert (arrived.stat().st_mode & 0o777, arrived.stat().st_uid) == (0o600, 0)
    split.source("/etc/ganeti/private", "two\n" * 400_000, 0o600)
    split.ok("wait")
    assert arrived.read_text() == "two\n" * 400_000
    assert split.json("status")["nodes"][1]["in_sync"]


def test_a_damaged_file_is_repaired(split: Split) -> None:
    split.source("/etc/ganeti/repaired", "right\n", 0o600)
    split.ok("file", "add", "/etc/ganeti/repaired", "--scope", "all")
    file = split.there("/etc/ganeti/repaired")
    file.write_text("wrong\n")
    until_holds(file, b"right\n", near=split.root)
    file.unlink()
    until_holds(file, b"right\n", near=split.root)


def test_promotion_brings_secrets_and_demotion_takes_them(split: Split) -> None:
    split.source(SECRET, "secret\n", 0o600)
    until(lambda: any(file["path"] == SECRET for file in split.json("file", "list")), near=split.here.root)
    split.ok("cluster", "modify", "-C", "2")
    split.ok("node", "modify", "node2", "-C", "yes")
    assert split.there(SECRET).read_text() == "secret\n"
    assert split.there(SECRET).stat().st_mode & 0o777 == 0o600
    split.ok("cluster", "modify", "-C", "1")
    split.ok("node", "modify", "node2", "-C", "no")
    assert not split.there(SECRET).exists()
    assert not [kept for kept in (split.state_dir / "helper/backups").iterdir() if "rapi" in kept.name]


def test_withdrawn_files_go_and_leave_a_copy(split: Split) -> None:
    split.source("/etc/ganeti/passing", "here\n")
    split.ok("file", "add", "/etc/ganeti/passing", "--scope", "all")
    split.ok("file", "remove", "/etc/ganeti/passing")
    until(lambda: not split.there("/etc/ganeti/passing").exists(), near=split.root)
    assert [kept for kept in (split.state_dir / "helper/backups").iterdir() if "passing" in kept.name]


def test_verify_finds_nothing_wrong_and_what_is(split: Split) -> None:
    split.ok("wait")
    assert split.here.run("cluster", "verify").returncode == 0


def test_kill_9_of_either_loses_nothing(split: Split) -> None:
    split.source("/etc/ganeti/survivor", "1\n", 0o600)
    split.ok("file", "add", "/etc/ganeti/survivor", "--scope", "all")
    split.kill(split.helper)
    split.source("/etc/ganeti/survivor", "2\n", 0o600)
    split.start_helper()
    until_holds(split.there("/etc/ganeti/survivor"), b"2\n", near=split.root)
    split.kill(split.agent)
    split.source("/etc/ganeti/survivor", "3\n", 0o600)
    split.start_agent()
    until_holds(split.there("/etc/ganeti/survivor"), b"3\n", near=split.root)
    split.ok("wait")


def test_a_new_key_is_kept_where_the_next_start_finds_it(split: Split) -> None:
    before = identity.read_public_key(split.etc / "agent.nk")
    split.ok("cluster", "renew-crypto", "--node", "node2")
    assert identity.read_public_key(split.etc / "agent.nk") != before
    split.kill(split.agent)
    split.start_agent()
    split.ok("wait")


def test_whom_to_believe_is_kept_by_the_helper(split: Split) -> None:
    """The agent cannot write these files; the helper does, on the master's signed word."""
    files = [split.etc / name for name in ("ca.pem", "master.pub", "agent.nk")]
    before = [path.read_bytes() for path in files]
    split.ok("cluster", "renew-crypto")
    assert all(path.read_bytes() != was for path, was in zip(files, before, strict=True))
    split.kill(split.agent)
    split.start_agent()
    split.source("/etc/ganeti/believed", "4\n", 0o600)
    split.ok("file", "add", "/etc/ganeti/believed", "--scope", "all")
    until_holds(split.there("/etc/ganeti/believed"), b"4\n", near=split.root)
    split.ok("wait")


def test_jobs_run_as_root_and_survive_agent_and_helper(split: Split) -> None:
    split.ok("wait")
    until(lambda: "hello" in str(split.json("os", "list")), near=split.root)
    disk, going = split.root / "disk0", split.root / "go-on"
    os.mkfifo(going)
    create = split.root / "srv/ganeti/os/hello/create"
    kept = create.read_text()
    create.write_text(f'#!/bin/sh\nid -u > "$DISK_0_PATH"\ncat {going}\n')
    line = ("instance", "add", "web1", "-n", "node2", "-o", "hello+plain", "--disk", str(disk))
    adding = subprocess.Popen(
        [Path(sys.prefix) / "bin/gnt-mesh", "--dir", split.here.etc, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    until(lambda: disk.exists() and disk.read_text() == "0\n", near=split.root, what="the script has begun, as root")
    split.kill(split.helper)
    split.kill(split.agent)
    split.start_helper()
    split.start_agent()
    going.write_text("the end\n")
    output, _ = adding.communicate(timeout=60)
    create.write_text(kept)
    assert adding.returncode == 0, output
    assert b"the end" in output
    (job,) = split.json("job", "list")
    assert job["status"] == "success"


def test_a_job_is_cancelled_with_all_its_processes(split: Split) -> None:
    create = split.root / "srv/ganeti/os/hello/create"
    kept = create.read_text()
    pid = split.root / "left-behind"
    create.write_text(f"#!/bin/sh\nsetsid sh -c 'echo $$ > {pid}; exec sleep 1000' &\nwait\n")
    line = ("instance", "add", "web2", "-n", "node2", "-o", "hello+plain", "--disk", str(split.root / "disk1"))
    adding = subprocess.Popen(
        [Path(sys.prefix) / "bin/gnt-mesh", "--dir", split.here.etc, *line],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    number = int(until(lambda: pid.exists() and pid.read_text(), near=split.root))
    (job,) = (one["id"] for one in split.json("job", "list") if one["status"] == "running")
    split.ok("job", "cancel", job)
    assert adding.wait(60) == 1
    create.write_text(kept)
    assert split.json("job", "info", job)["status"] == "cancelled"
    until(lambda: not Path(f"/proc/{number}").exists(), near=split.root)
