"""The privileged process of one node, real, on a real socket, and a master whose word is in the test's hands."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from node_agent.core.reconcile import Outcome, Plan, Remove, Write
from node_agent.privileged.client import Client
from node_agent.privileged.remote_disk import RemoteDisk
from node_agent.privileged.word import SignedWord
from protocol import identity, subjects
from protocol.bus import AsSigned
from protocol.messages import Assignment, FileEntry, Manifest, Withdrawal
from protocol.names import ALL, Digest, ManagedPath, NodeName, ScopeName
from protocol.sealing import boxes, envelopes
from protocol.sealing.boxes import ScopeKey
from protocol.sealing.signatures import Signer
from tests.support.notices import Notices
from tests.support.values import a_manifest

NODE = NodeName("node2")
USER = Path("/proc/self").owner()
GROUP = Path("/proc/self").group()
END_S = 20


class HelperRig:
    """`disk` is what an agent has of it. What `signer` signs is the master's word; any other is not."""

    def __init__(self, directory: Path, *, agent_user: str = USER, **settings: object) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.state_dir = directory / "helper"
        self.socket = directory / "helper.sock"
        (self.root / "etc").mkdir(parents=True)
        self.key = identity.ensure_seed(directory / "agent.nk")
        identity.ensure_seed(directory / "signing.nk")
        self.signer = Signer(identity.read_seed(directory / "signing.nk"))
        (directory / "master.pub").write_text(f"{self.signer.public_key}\n")
        facts = {
            "node": NODE,
            "server": "tls://127.0.0.1:1",
            "ca_file": "ca.pem",
            "seed_file": "agent.nk",
            "master_keys_file": "master.pub",
            "root": "root",
            "helper_socket": "helper.sock",
            "helper_state_dir": "helper",
            "agent_user": agent_user,
            "allowed_paths": ["/etc"],
            "os_search_path": ["/srv/ganeti/os"],
            "watch_step_ms": 20,
            "retry_first_s": 0.1,
            "spare_runner": False,
            **settings,
        }
        self.settings = directory / "agent.toml"
        self.settings.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()))
        self.log = directory / "helper.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.contents: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.new_agent()

    def new_agent(self) -> RemoteDisk:
        """Forget what the agent knows of the master's word."""
        self.word = SignedWord()
        self.client = Client(self.socket, self.word)
        self.disk = RemoteDisk(self.client)
        return self.disk

    def start(self) -> None:
        """Start it, and return once it answers."""
        with Notices() as notices, self.log.open("ab") as log:
            command = [sys.executable, "-m", "node_agent.privileged", "--settings", str(self.settings)]
            environment = os.environ | {"NOTIFY_SOCKET": notices.address}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
            try:
                notices.until("READY=1")
            except AssertionError as error:
                error.add_note(self.log.read_text()[-3000:])
                raise

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process
        self.process.send_signal(number)
        self.process.wait(END_S)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill(signal.SIGTERM)

    def on_disk(self, path: str) -> Path:
        return self.root / path[1:]

    def entry(
        self, path: str, content: str, *, mode: int = 0o644, generation: int = 1, secret: bool = False
    ) -> FileEntry:
        """Return an entry whose content the bus has."""
        raw = content.encode()
        digest = Digest(hashlib.sha256(raw).hexdigest())
        self.contents[digest] = raw
        return FileEntry(
            path=ManagedPath(path),
            digest=digest,
            size_bytes=len(raw),
            mode=mode,
            owner=USER,
            group=GROUP,
            generation=generation,
            secret=secret,
        )

    def assign(
        self,
        *scopes: ScopeName,
        serial: int = 1,
        signer: Signer | None = None,
        keys: Mapping[ScopeName, ScopeKey] | None = None,
        **more: bool,
    ) -> None:
        """Have the agent show an assignment, signed by the master unless the test has another one sign."""
        wrapped = tuple(boxes.wrap(key, scope, self.key) for scope, key in (keys or {}).items())
        assignment = Assignment(node=NODE, epoch=1, serial=serial, scopes=scopes, keys=wrapped, **more)
        data = envelopes.signed(subjects.role(NODE), assignment, signer or self.signer)
        self.word.take(AsSigned("assignment", assignment.version, data))

    def publish(
        self,
        *files: FileEntry,
        scope: ScopeName = ALL,
        generation: int = 1,
        withdrawn: Collection[Withdrawal] = (),
        signer: Signer | None = None,
        key: ScopeKey | None = None,
        inline: bool = True,
    ) -> Manifest:
        """Have the agent show a manifest; with a key, its secrets are sealed with it."""
        manifest = a_manifest(*files, scope=scope, generation=generation, withdrawn=withdrawn)
        head, encoded = envelopes.seal(boxes.seal_manifest(manifest, key) if key else manifest)
        rest = b""
        if not inline:
            head, rest = replace(head, inline=b""), encoded
        data = envelopes.signed(subjects.manifest(scope), head, signer or self.signer)
        self.word.take(AsSigned("manifest", manifest.version, data, scope, rest))
        return manifest

    async def put(self, *files: FileEntry, scope: ScopeName = ALL, **more: object) -> Outcome:
        """Ask for these files to be put there."""
        return await self.disk.perform(Plan(writes=tuple(Write(scope, file, **more) for file in files)), self.fetch)  # type: ignore[arg-type]

    async def remove(self, *paths: str, scope: ScopeName = ALL) -> Outcome:
        return await self.disk.perform(
            Plan(removals=tuple(Remove(scope, ManagedPath(path)) for path in paths)), self.fetch
        )

    async def fetch(self, scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        """Yield a content as the bus does."""
        self.fetched.append(entry.path)
        raw = self.contents[entry.digest]
        for start in range(0, len(raw), 512 * 1024):
            yield raw[start : start + 512 * 1024]

    def say(self, data: bytes, *, to_end: bool = True) -> bytes:
        """Say bytes on the socket; return all that is answered. Without `to_end` the saying is left unfinished."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self.socket))
            connection.settimeout(END_S)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
                if not to_end:
                    return b""
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    answer += piece
            return answer

    def tree(self) -> dict[str, bytes]:
        """Return every file below the node's root, temporaries included."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def another_signer(directory: Path) -> Signer:
    identity.ensure_seed(directory / "mallory.nk")
    return Signer(identity.read_seed(directory / "mallory.nk"))


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message
