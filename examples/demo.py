"""What the mesh does, to watch: `make demo`. One master and three nodes, on this machine, in under a minute.

It does only what a user can do: it runs the command `gnt-mesh`, edits plain files and reads them. Every claim is
checked by reading the nodes' files; if one does not hold the demo says so and ends with 1.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

NODES = 4
READY_LINE = "Ctrl-C ends it"
PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.001

MOTD = "/etc/motd"
HOSTS = "/etc/ganeti/hosts"
SECRET = "/etc/ganeti/backup.key"
VNC = "/etc/ganeti/vnc.conf"
RACK = "/etc/ganeti/rack.conf"

SCOPES = {MOTD: "all", HOSTS: "all", SECRET: "master-candidates", VNC: "vm-capable", RACK: "group-rack2"}

HELLO = Path(__file__).parent / "os/hello"
ADD = ("instance", "add", "web1", "-n", "node2", "-o", "hello+fancy", "-O", "greeting=welcome")

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class Failed(Exception):
    """Something that was promised did not happen."""


class Mesh:
    """A running `gnt-mesh up`, and the files below it."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.command = _gnt_mesh()
        self._said: list[str] = []
        self._is_ready = threading.Event()
        self._up = subprocess.Popen(
            [self.command, "up", "--dir", directory, "--nodes", str(NODES)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def until_ready(self) -> None:
        if not self._is_ready.wait(PATIENCE_S * 2) or self._up.poll() is not None:
            raise Failed("gnt-mesh up did not get ready:\n" + "".join(self._said))

    def run(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run one command, and show it."""
        self._tell(args)
        return subprocess.run([self.command, "--dir", self.dir, *args], capture_output=True, text=True, check=False)

    def live(self, *args: str) -> None:
        """Run one command that must succeed, and show what it prints as it prints it."""
        self._tell(args)
        command = [self.command, "--dir", self.dir, *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                console.print(f"  {line}".replace(str(self.dir), "DIR"), end="", markup=False)
        if process.returncode != 0:
            raise Failed(f"gnt-mesh {' '.join(args)} ended with {process.returncode}")

    def quietly(self, *args: str) -> str:
        return subprocess.run([self.command, "--dir", self.dir, *args], capture_output=True, text=True).stdout

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        if done.returncode != 0:
            raise Failed(f"gnt-mesh {' '.join(args)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return what `gnt-mesh status --json` says of each node."""
        status = json.loads(self.ok("status", "--json"))
        return {node["name"]: node for node in status["nodes"]}

    def file(self, node: str, path: str) -> Path:
        return self.dir / "nodes" / node / path.lstrip("/")

    def read(self, node: str, path: str) -> str | None:
        """Return what a node really has on its disk."""
        try:
            return self.file(node, path).read_text()
        except FileNotFoundError:
            return None

    def edit(self, path: str, content: str) -> None:
        """Write a file on the master as a good editor does: beside it, then over it."""
        console.print(f"  [dim]edit[/dim] [magenta]DIR/nodes/node1{path}[/magenta]: {content}")
        source = self.file("node1", path)
        source.parent.mkdir(parents=True, exist_ok=True)
        beside = source.with_name(f".{source.name}.edit")
        beside.write_text(f"{content}\n")
        beside.rename(source)

    def signal_agent(self, node: str, number: signal.Signals) -> None:
        os.kill(int((self.dir / "run" / f"{node}.pid").read_text()), number)

    def stop(self) -> None:
        """End it as Ctrl-C would; Failed if anything is left."""
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGINT)
        try:
            code = self._up.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._up.kill()
            raise Failed("gnt-mesh up did not end") from None
        until(lambda: not self._processes(), "no process is left")
        if code != 0:
            raise Failed(f"gnt-mesh up ended with {code}:\n" + "".join(self._said))

    def _tell(self, args: Sequence[str]) -> None:
        line = " ".join(args).replace(str(self.dir), "DIR")
        console.print(f"  [dim]$[/dim] [cyan]gnt-mesh --dir DIR {line}[/cyan]")

    def _listen(self) -> None:
        assert self._up.stdout
        for line in self._up.stdout:
            self._said.append(line)
            if READY_LINE in line:
                self._is_ready.set()
        self._is_ready.set()

    def _processes(self) -> list[str]:
        """Return the processes with a path of this mesh on their command line."""
        prefix = f"{self.dir.resolve()}/"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(word.startswith(prefix) for word in (process / "cmdline").read_text().split("\0")):
                    found.append(process.name)
        return found


class Demo:
    """The story. `held` is what the last table showed, so that the next one can show what changed."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.nodes = [f"node{number}" for number in range(1, NODES + 1)]
        self.held: dict[tuple[str, str], str | None] = {}

    def run(self) -> None:
        self.bring_up()
        self.add_files()
        self.edit()
        self.promote()
        self.demote()
        self.stop_and_continue()
        self.damage()
        self.add_a_node()
        self.install_an_os()

    def bring_up(self) -> None:
        with step("A mesh: nats-server, one master (node1) and three more nodes, each with a root of its own"):
            self.mesh.until_ready()
        expect(all(node["online"] for node in self.mesh.status().values()), "all four nodes are online")

    def add_files(self) -> None:
        with step("Files for all nodes, for master candidates alone, for nodes with instances, and for one group"):
            for path, content in (
                (MOTD, "welcome"),
                (HOSTS, "hosts one"),
                (SECRET, "secret one"),
                (VNC, "vnc one"),
                (RACK, "switch 17"),
            ):
                self.mesh.edit(path, content)
            self.mesh.ok("group", "add", "rack2")
            self.mesh.ok("node", "modify", "node4", "--group", "rack2")
            self.mesh.ok("node", "modify", "node3", "--vm-capable", "no")
            for path, scope in SCOPES.items():
                self.mesh.ok("file", "add", path, "--scope", scope)
        self.show()
        self.expect_held(SECRET, ["node1"])
        self.expect_held(VNC, ["node1", "node2", "node4"])
        self.expect_held(RACK, ["node1", "node4"])

    def edit(self) -> None:
        self.mesh.edit(HOSTS, "hosts two")
        with step("An edit on the master is on every node's disk, without any command"):
            for node in self.nodes:
                self.until_held(node, HOSTS, "hosts two")
        self.mesh.edit(MOTD, "both")
        self.mesh.edit(VNC, "together")
        with step("`wait` proves it: it ends when every node has given its receipt"):
            self.mesh.ok("wait")
        self.expect_content(MOTD, "both", self.nodes)
        self.expect_content(VNC, "together", ["node2", "node4"])
        self.show()

    def promote(self) -> None:
        with step("Promote node2. When the command returns, it holds what a master candidate must hold"):
            self.mesh.ok("node", "modify", "node2", "-C", "yes")
            held = self.mesh.read("node2", SECRET)
        expect(held == "secret one\n", "node2 has the candidates' secret")
        expect(self.mesh.status()["node2"]["role"] == "C", "node2 is a master candidate")
        self.show()

    def demote(self) -> None:
        with step("Demote it. When the command returns, the secret is gone from its disk"):
            self.mesh.ok("node", "modify", "node2", "-C", "no")
            held = self.mesh.read("node2", SECRET)
        expect(held is None, "node2 has no secret any more")
        self.mesh.edit(SECRET, "secret two")
        self.mesh.ok("wait")
        expect(self.mesh.read("node2", SECRET) is None, "and it does not get the next one either")
        self.show()

    def stop_and_continue(self) -> None:
        with step("Stop node3: its agent no longer runs. Edit meanwhile"):
            self.mesh.signal_agent("node3", signal.SIGSTOP)
            self.mesh.edit(MOTD, "meanwhile")
            for node in ("node2", "node4"):
                self.until_held(node, MOTD, "meanwhile")
        expect(self.mesh.read("node3", MOTD) == "both\n", "node3 still has the old content")
        late = self.mesh.run("wait", "--timeout", "1")
        console.print(f"  {' '.join(late.stderr.split())}", style="yellow", markup=False)
        expect(late.returncode == 2 and "node3" in late.stderr, "`wait` ends with 2 and says who is missing")
        in_sync = {name: node["in_sync"] for name, node in self.mesh.status().items()}
        expect(not in_sync["node3"] and in_sync["node2"] and in_sync["node4"], "and `status` shows node3 behind")
        self.show()
        with step("Let node3 go on: it catches up by itself"):
            self.mesh.signal_agent("node3", signal.SIGCONT)
            self.until_held("node3", MOTD, "meanwhile")
        self.mesh.ok("wait")
        self.show()

    def damage(self) -> None:
        damaged = self.mesh.file("node4", HOSTS)
        console.print("  [dim]damage[/dim] [magenta]DIR/nodes/node4/etc/ganeti/hosts[/magenta], and remove its motd")
        damaged.write_text("what have I done\n")
        self.mesh.file("node4", MOTD).unlink()
        with step("A file damaged by hand and one removed by hand are repaired"):
            self.until_held("node4", HOSTS, "hosts two")
            self.until_held("node4", MOTD, "meanwhile")

    def add_a_node(self) -> None:
        with step("A new node gets everything that is for it"):
            self.mesh.ok("node", "add", "node5", "--wait")
        self.nodes.append("node5")
        self.expect_content(MOTD, "meanwhile", ["node5"])
        expect(self.mesh.read("node5", SECRET) is None, "and nothing else")
        self.show()

    def install_an_os(self) -> None:
        disk = self.mesh.dir / "web1.disk"
        with step("An OS definition, put onto the nodes that run instances: their agents tell of it"):
            console.print("  [dim]copy[/dim] [magenta]examples/os/hello[/magenta] to DIR/nodes/NODE/srv/ganeti/os")
            for node in ("node1", "node2", "node4", "node5"):
                shutil.copytree(HELLO, self.mesh.file(node, "/srv/ganeti/os/hello"))
            until(lambda: "hello+fancy" in self.mesh.quietly("os", "list"), "hello can be installed everywhere")
        self.mesh.live("os", "list")
        refused = self.mesh.run(*ADD, "-O", "lines=2", "--disk", str(disk))
        console.print(f"  {' '.join(refused.stderr.split())}", style="yellow", markup=False)
        expect(refused.returncode == 1 and not disk.exists(), "a wrong parameter is refused before a disk is touched")
        with step("Install it: the script's output comes as it is printed"):
            self.mesh.live(*ADD, "-O", "lines=1", "--disk", str(disk))
        expect(disk.read_text() == "*** welcome *** from web1\n", "the disk holds what the script wrote")
        with step("Reinstall it with another parameter: what is stored is kept below it"):
            self.mesh.live("instance", "reinstall", "web1", "-O", "lines=3")
        expect(disk.read_text() == "*** welcome *** from web1\n" * 3, "and the script got both")
        self.mesh.live("instance", "info", "web1")

    def until_held(self, node: str, path: str, content: str) -> None:
        until(lambda: self.mesh.read(node, path) == f"{content}\n", f"{node} has {path} with {content!r}")

    def expect_held(self, path: str, nodes: list[str]) -> None:
        held = [node for node in self.nodes if self.mesh.read(node, path) is not None]
        expect(held == nodes, f"{path} is on {', '.join(nodes)} and nowhere else")

    def expect_content(self, path: str, content: str, nodes: list[str]) -> None:
        wrong = [node for node in nodes if self.mesh.read(node, path) != f"{content}\n"]
        expect(not wrong, f"{path} with {content!r} is on {', '.join(nodes)}")

    def show(self) -> None:
        """Print what each node really holds now; what changed since the last table is marked."""
        table = Table(box=None, padding=(0, 2), header_style="bold")
        table.add_column("")
        for path, scope in SCOPES.items():
            table.add_column(Text(Path(path).name).append(f"\n{scope}", style="dim not bold"))
        for node in self.nodes:
            cells = [self._cell(node, path) for path in SCOPES]
            table.add_row(Text(node, style="bold"), *cells)
        console.print()
        console.print(table)
        console.print()

    def _cell(self, node: str, path: str) -> Text:
        content = self.mesh.read(node, path)
        is_new = bool(self.held) and self.held.get((node, path)) != content
        self.held[node, path] = content
        if content is None:
            return Text("gone" if is_new and node != "node5" else "-", style="red" if is_new else "dim")
        short = hashlib.sha256(content.encode()).hexdigest()[:4]
        text = Text(f"{short} ", style="bold green" if is_new else "dim")
        text.append(content.strip(), style="bold green" if is_new else "")
        return text


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what happens, let it happen, say how long it took."""
    console.print(f"[bold blue]>[/bold blue] [bold]{title}[/bold]")
    started_s = time.monotonic()
    yield
    console.print(f"  [green]done in {(time.monotonic() - started_s) * 1000:.0f} ms[/green]")


def expect(holds: bool, sentence: str) -> None:
    """Say that a promise is kept; Failed if it is not."""
    if not holds:
        raise Failed(sentence)
    console.print(f"  [green]ok[/green] {sentence}")


def until(check: Callable[[], bool], sentence: str) -> None:
    """Look until it is so; Failed if it never is."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not check():
        if time.monotonic() > deadline_s:
            raise Failed(f"not within {PATIENCE_S:g} s: {sentence}")
        time.sleep(LOOK_AGAIN_S)


def main() -> int:
    """Return 0 if everything that was promised happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the mesh's directory, to start it again by hand")
    keep = parser.parse_args().keep
    started_s = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="gnt-mesh-demo-"))
    console.print(f"[dim]DIR is {directory}[/dim]\n")
    code = 0
    try:
        mesh = Mesh(directory)
        try:
            Demo(mesh).run()
        finally:
            with step("End it all: no process is left"):
                mesh.stop()
        console.print(f"\n[bold green]All of it in {time.monotonic() - started_s:.1f} s.[/bold green]")
    except Failed as error:
        console.print("\n[bold red]FAILED:[/bold red] ", end="")
        console.print(str(error), markup=False)
        code = 1
    except KeyboardInterrupt:
        code = 130
    finally:
        if keep:
            console.print(f"Start it again with: gnt-mesh up --dir {directory}")
        else:
            shutil.rmtree(directory)
    return code


def _gnt_mesh() -> str:
    """Return the command that was installed with this interpreter, else the one on the PATH."""
    beside = Path(sys.executable).with_name("gnt-mesh")
    found = str(beside) if beside.exists() else shutil.which("gnt-mesh")
    if found is None:
        raise Failed("there is no gnt-mesh command; `make demo` installs it")
    return found


if __name__ == "__main__":
    sys.exit(main())
