"""A second agent, written from protocol/SPEC.md alone, to show that nothing is missing there: no code of ours is in it.

It joins with a token, holds every file of its node's scopes, secrets too, gives back what no manifest lists any more,
and gives receipts. It leaves out backups, repair, growing pauses, `mesh.rpc` and OS jobs.

    python second_agent.py ROOT STATE_FILE < TOKEN
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import nats
import nkeys
from nacl.public import SealedBox
from nacl.secret import SecretBox
from nacl.signing import SigningKey, VerifyKey

VERSION = 3
CHUNK = 512 * 1024
BEAT_LOST_S = 4.0
ANSWER_S = 1.0  # what the server refuses has no answer

Map = dict[str, Any]


class Refused(Exception):
    """What somebody else said cannot be followed."""


def encode(kind: str, **fields: Any) -> bytes:
    return bytes(msgpack.packb({"v": VERSION, "kind": kind, **fields}))


def decode(kind: str, payload: bytes) -> Map:
    message = msgpack.unpackb(payload)
    if message["v"] > VERSION or message["kind"] != kind:
        raise Refused(f"{message['kind']} of version {message['v']} instead of {kind}")
    return dict(message)


def keyed(key: bytes, purpose: str, about: bytes) -> bytes:
    return hashlib.blake2b(about, digest_size=32, key=key, person=purpose.encode()).digest()


def seed_text(raw: bytes) -> str:
    return bytes(nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER)).decode()


def public_text(raw: bytes) -> str:
    return str(nkeys.from_seed(bytearray(seed_text(raw).encode())).public_key.decode())


class Token:
    """Section 7: what `node add` has printed."""

    PREFIX = "gnt-mesh-join-1-"

    def __init__(self, text: str) -> None:
        body = base64.urlsafe_b64decode(text.removeprefix(self.PREFIX) + "==")
        if hashlib.sha256(self.PREFIX.encode() + body[:-6]).digest()[:6] != body[-6:]:
            raise Refused("this token was altered or cut off")
        self.authority, self.door, self.own, self.signer = (body[at : at + 32] for at in (0, 32, 64, 96))
        self.node, self.address = (part.decode() for part in body[128:-6].split(b"\0", 1))
        self.name = self.node.replace(".", "_")

    def certificate(self) -> str:
        """Return, as PEM, the certificate with the token's fingerprint, of those that the server shows."""
        host, port = self.address.removeprefix("tls://").rsplit(":", 1)
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((host, int(port)), 10) as raw, blind.wrap_socket(raw) as shaken:
            chain = [certificate.public_bytes() for certificate in shaken._sslobj.get_unverified_chain()]  # type: ignore[attr-defined]
        for pem in chain:
            if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == self.authority:
                return str(pem)
        raise Refused("another cluster answers at this address")

    async def connect(self, authorities: str, raw: bytes, inbox: str) -> Any:
        context = ssl.create_default_context(cadata=authorities)
        options = {"tls": context, "tls_handshake_first": True, "nkeys_seed_str": seed_text(raw), "inbox_prefix": inbox}
        return await nats.connect(self.address, max_reconnect_attempts=-1, **options)

    async def join(self) -> Map:
        pem, raw = self.certificate(), os.urandom(32)
        public = public_text(raw)
        proof = SigningKey(self.own).sign(f"gnt-mesh join\0{self.node}\0{public}".encode()).signature
        fields = {"public_key": public, "token_key": public_text(self.own), "signature": proof}
        door = await self.connect(pem, self.door, "_INBOX_join")
        answer = await door.request(
            "mesh.api.join", encode("JoinRequest", node=self.node, **fields), timeout=5 * ANSWER_S
        )
        await door.close()
        if answer.headers and "Nats-Service-Error" in answer.headers:
            raise Refused(answer.headers["Nats-Service-Error"])
        return {"authorities": decode("JoinReply", answer.data)["authorities"], "seed": raw.hex()}


class Agent:
    """One node: `news` says that it should look, a look ends with a status."""

    def __init__(self, token: Token, root: Path, state_file: Path) -> None:
        self.token, self.root, self.state_file = token, root, state_file
        self.state: Map = {"assigned": [0, 0], "versions": {}, "written": {}}
        self.status: Map = {"node": token.node, "boot": os.urandom(8).hex(), "sequence": 0, "serial": 0, "look": ""}
        self.status |= {"refusals": {"count": 0, "last": ""}, "agent_version": "second", "os_report": ""}
        self.manifests: dict[str, Map] = {}
        self.keys: dict[str, bytes] = {}
        self.news = asyncio.Event()

    async def run(self) -> None:
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())
        else:
            self.state |= await self.token.join()
            self.remember()
        self.bus = await self.token.connect(
            self.state["authorities"], bytes.fromhex(self.state["seed"]), f"_INBOX_{self.token.name}"
        )
        await self.bus.subscribe(f"mesh.bell.node.{self.token.name}", cb=self.heard_node_bell)
        while True:
            self.news.clear()
            with self.counting():
                await self.look()
            self.status["sequence"] += 1
            await self.bus.publish(f"mesh.status.{self.token.name}", encode("Status", **self.status))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_LOST_S):
                    await self.news.wait()

    # ---- what the master says

    async def heard_node_bell(self, message: Any) -> None:
        with self.counting():
            bell = decode("NodeBell", self.signed(message.subject, message.data))
            self.status["look"] = bell["look"] or self.status["look"]
            self.news.set()

    async def heard_scope_bell(self, message: Any) -> None:
        with self.counting():
            bell = decode("ScopeBell", message.data)
            if [bell["epoch"], bell["generation"]] > self.state["versions"].get(bell["scope"], [0, 0]):
                self.news.set()

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.status["refusals"] = {"count": self.status["refusals"]["count"] + 1, "last": repr(error)}

    def signed(self, subject: str, payload: bytes) -> bytes:
        message = decode("Signed", payload)
        if base64.b32decode(message["signer"] + "=" * (-len(message["signer"]) % 8))[1:33] != self.token.signer:
            raise Refused("signed by another key")
        said = b"gnt-mesh signed\0" + subject.encode() + b"\0" + message["body"]
        VerifyKey(self.token.signer).verify(said, message["signature"])
        return bytes(message["body"])

    async def get(self, stream: str, subject: str) -> bytes:
        answer = await self.bus.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", timeout=ANSWER_S)
        if answer.headers and "Status" in answer.headers:
            raise LookupError(f"{subject}: {answer.headers['Status']}")
        return bytes(answer.data)

    async def assignment(self) -> Map:
        subject = f"mesh.role.{self.token.name}"
        assignment = decode("Assignment", self.signed(subject, await self.get("ROLES", subject)))
        version = [assignment["epoch"], assignment["serial"]]
        if version < self.state["assigned"]:
            raise Refused("an older assignment")
        own = SigningKey(bytes.fromhex(self.state["seed"])).to_curve25519_private_key()
        self.keys = {wrapped["key"]: SealedBox(own).decrypt(wrapped["box"]) for wrapped in assignment["keys"]}
        self.state["assigned"], self.status["serial"] = version, assignment["serial"]
        return assignment

    async def manifest(self, scope: str) -> Map:
        subject = f"mesh.manifest.{scope}"
        head = decode("ManifestHead", self.signed(subject, await self.get(f"FILES_{scope}", subject)))
        encoded = head["inline"] or await self.blob(scope, head["digest"], head["size_bytes"])
        manifest = decode("Manifest", encoded)
        if hashlib.sha256(encoded).hexdigest() != head["digest"] or manifest["scope"] != scope:
            raise Refused("not the manifest that was signed")
        if [manifest["epoch"], manifest["generation"]] < self.state["versions"].get(scope, [0, 0]):
            raise Refused("an older manifest")
        if manifest["key"]:
            self.open_secrets(manifest, self.keys[manifest["key"]])
        return manifest

    @staticmethod
    def open_secrets(manifest: Map, key: bytes) -> None:
        """Give every secret its true digest and size, section 4.3."""
        about = f"{manifest['scope']} {manifest['epoch']} {manifest['generation']}".encode()
        facts = SecretBox(keyed(key, "manifest", about)).decrypt(manifest["sealed"])
        for number, entry in enumerate(entry for entry in manifest["files"] if entry["secret"]):
            digest, size = facts[40 * number :][:32], facts[40 * number + 32 :][:8]
            if keyed(key, "content name", digest + entry["path"].encode()).hex() != entry["digest"]:
                raise Refused("the name of another secret")
            entry |= {"name": entry["digest"], "shown": entry["size_bytes"], "key": key}
            entry |= {"digest": digest.hex(), "size_bytes": int.from_bytes(size, "big")}

    # ---- what is on the disk

    async def look(self) -> None:
        scopes = (await self.assignment())["scopes"]
        for scope in set(scopes) - set(self.manifests):
            await self.bus.subscribe(f"mesh.bell.scope.{scope}", cb=self.heard_scope_bell)
        self.manifests = {scope: await self.manifest(scope) for scope in scopes}
        desired: dict[str, tuple[str, Map]] = {}
        for scope, manifest in self.manifests.items():
            for entry in manifest["files"]:
                if entry["path"] not in desired or entry["generation"] > desired[entry["path"]][1]["generation"]:
                    desired[entry["path"]] = (scope, entry)
        for path in set(self.state["written"]) - set(desired):
            target = self.root / path.lstrip("/")
            target.unlink(missing_ok=True)
            sync(target.parent)
            del self.state["written"][path]
        errors = []
        for path, (scope, entry) in desired.items():
            try:
                await self.hold(scope, entry)
            except (OSError, LookupError, Refused) as error:
                errors.append({"scope": scope, "path": path, "reason": str(error)})
        whole = [manifest for scope, manifest in self.manifests.items() if scope not in {e["scope"] for e in errors}]
        self.state["versions"] = {one["scope"]: [one["epoch"], one["generation"]] for one in self.manifests.values()}
        self.remember()
        self.status["receipts"] = [{key: one[key] for key in ("scope", "epoch", "generation")} for one in whole]
        self.status["holding"] = sorted(set(self.state["written"].values()))
        self.status |= {"errors": errors, "errors_count": len(errors)}

    async def hold(self, scope: str, entry: Map) -> None:
        """Have this file on the disk, durably, with its mode, owner and group."""
        target = self.root / entry["path"].lstrip("/")
        if ".." in target.parts or target.parent.resolve() != target.parent or target.is_symlink():
            raise Refused("no path that may be written")
        is_here = target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == entry["digest"]
        content = target.read_bytes() if is_here else await self.content(scope, entry)
        if hashlib.sha256(content).hexdigest() != entry["digest"]:
            raise Refused("not the content of the manifest")
        target.parent.mkdir(parents=True, exist_ok=True)
        replace(
            target, content, entry["mode"], [int(n) if n.isdecimal() else n for n in (entry["owner"], entry["group"])]
        )
        self.state["written"][entry["path"]] = scope

    async def content(self, scope: str, entry: Map) -> bytes:
        if "key" not in entry:
            return await self.blob(scope, entry["digest"], entry["size_bytes"])
        box = SecretBox(keyed(entry["key"], "content", entry["name"].encode()))
        last = -(-entry["shown"] // CHUNK) - 1
        nonces = [number.to_bytes(8, "big") + bytes([number == last]) + bytes(15) for number in range(last + 1)]
        chunks = [box.decrypt(await self.chunk(scope, entry["name"], n), nonce) for n, nonce in enumerate(nonces)]
        return b"".join(chunks)[: entry["size_bytes"]]

    async def blob(self, scope: str, name: str, size_bytes: int) -> bytes:
        return b"".join([await self.chunk(scope, name, number) for number in range(-(-size_bytes // CHUNK))])

    async def chunk(self, scope: str, name: str, number: int) -> bytes:
        try:
            return await self.get(f"BLOBS_{scope}", f"mesh.blob.{scope}.{name}.{number}")
        except LookupError:
            wanted = encode("BlobWanted", node=self.token.node, scope=scope, digest=name)
            await self.bus.publish(f"mesh.ask.{self.token.name}.blob", wanted)
            raise

    def remember(self) -> None:
        replace(self.state_file, json.dumps(self.state).encode(), 0o600, [os.geteuid(), os.getegid()])


def replace(target: Path, content: bytes, mode: int, owner: list[Any]) -> None:
    temporary = target.with_name(f".second-agent.{target.name}")
    temporary.unlink(missing_ok=True)
    with open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        if os.geteuid() == 0:
            shutil.chown(temporary, *owner)
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(target)
    sync(target.parent)


def sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    asyncio.run(Agent(Token(sys.stdin.read().strip()), Path(sys.argv[1]).resolve(), Path(sys.argv[2])).run())
