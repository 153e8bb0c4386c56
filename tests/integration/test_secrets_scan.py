"""Known secrets are planted, the mesh is used in every way, and then every byte of it that can be found is searched.

What may hold a secret: its source, its copies on the nodes of its scope, and the master's own state. A ledger, which
only root can read, has the hash of what lies beside it. A private OS parameter is in config.data, and so where that may
be; a secret one in the environment of its script alone. The scanner counts because it finds a file that is no secret.
"""

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol import codec
from protocol.messages import BlobWanted
from protocol.names import ALL, Digest, NodeName
from tests.support.mesh import RunningMesh, processes_of, running_mesh
from tests.support.os_files import OS_PLACE
from tests.support.scanner import Planted, Scanner, plant
from tests.support.spy import Spy
from tests.support.waiting import until, until_holds

CANDIDATES, EVERYWHERE, LARGE, CHANGED, OPEN = (
    plant("a candidates' file"),
    plant("a secret on every node"),
    plant("a large secret", lines=20_000),
    plant("a secret's next content"),
    plant("no secret at all"),
)
SECRETS = (CANDIDATES, EVERYWHERE, LARGE, CHANGED)
PRIVATE, PARAMETER = plant("a private OS parameter"), plant("a secret OS parameter")
PATHS = {"rapi_users": CANDIDATES, "vnc-password": EVERYWHERE, "large": LARGE, "motd": OPEN}


HELLO = Path(__file__).parents[2] / "examples/os/hello"
WAITS = 'set -eu\necho $$ > "$DISK_0_PATH.pid"\nread -r go < "$DISK_0_PATH.go"\n'


BEGUN = "begun"
SHARED_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
"""Where programs put temporary files that are started with an environment of their own, as jobs are."""


class Used:
    """A mesh and all that its commands have printed."""

    def __init__(self, mesh: RunningMesh, spy: Spy) -> None:
        self.mesh, self.spy = mesh, spy
        self.printed: list[str] = []

    def run(self, *words: str, ok: bool = True, told: str = "") -> str:
        done = self.mesh.run(*words, told=told)
        self.printed += [" ".join(words), done.stdout, done.stderr]
        assert done.returncode == 0 or not ok, done.stderr
        return done.stdout

    def put(self, name: str, planted: Planted) -> None:
        source = self.on("node1", name)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(planted.content)
        source.chmod(0o600)

    def on(self, node: str, name: str) -> Path:
        return self.mesh.node_root(node) / "etc/ganeti" / name


def install(used: Used, disk: Path, look: Callable[[int], None]) -> None:
    """Install and reinstall an instance with parameters that nobody may see; `look` while a script has them."""
    place, going, begun = used.mesh.node_root("node2") / OS_PLACE / "hello", Path(f"{disk}.go"), Path(f"{disk}.pid")
    shutil.copytree(HELLO, place)
    (place / "create").write_text((place / "create").read_text().replace("set -eu\n", WAITS))
    os.mkfifo(going)
    until(lambda: '"hello"' in used.mesh.ok("os", "list", "--json"), near=used.mesh.dir)
    private, secret = PRIVATE.token.decode(), PARAMETER.token.decode()
    new = ("-n", "node2", "-o", "hello+plain", "--disk", str(disk), "--os-parameters-private", "token")
    for words, told in ((("add", "web", *new), f"{private}\n{secret}\n"), (("reinstall", "web"), f"{secret}\n")):
        flags = ("--os-parameters-secret", "password", "--submit", "--json")
        job = json.loads(used.run("instance", *words, *flags, told=told))["job_id"]
        script = until(lambda: begun.exists() and begun.read_text().strip(), near=used.mesh.dir)
        for command in (["instance", "info", "web"], ["os", "env", "web"], ["job", "info", job], ["job", "list"]):
            used.run(*command)
            used.run(*command, "--json")
        look(int(script))
        begun.unlink()
        going.write_text("go\n")
        used.run("job", "watch", job)
        assert f"token {private}" in disk.read_text() and "password " in disk.read_text()


def use(used: Used) -> None:
    """Ship, change, promote, demote, damage, restart, ask for everything that can be asked."""
    for name, planted in PATHS.items():
        used.put(name, planted)
    used.run("file", "add", "/etc/ganeti/rapi_users", "--scope", "master-candidates")
    used.run("file", "add", "/etc/ganeti/vnc-password", "--scope", "all", "--secret")
    used.run("file", "add", "/etc/ganeti/large", "--scope", "vm-capable", "--secret")
    used.run("file", "add", "/etc/ganeti/motd", "--scope", "all")
    used.run("node", "modify", "node3", "-C", "yes")
    assert used.on("node3", "rapi_users").read_bytes() == CANDIDATES.content
    used.put("vnc-password", CHANGED)
    used.run("wait")
    used.on("node2", "vnc-password").write_bytes(b"damaged by hand")
    until_holds(used.on("node2", "vnc-password"), CHANGED.content, near=used.mesh.node_root("node2"))
    used.run("node", "modify", "node3", "-C", "no")
    assert not used.on("node3", "rapi_users").exists()
    for child in ("master", "node2"):
        used.mesh.until_restarted(child, used.mesh.kill(child))
    used.run("wait")
    used.run("cluster", "redist-conf")
    for words in (
        ["status"],
        ["file", "list"],
        ["file", "info", *(f"/etc/ganeti/{name}" for name in PATHS)],
        ["node", "list"],
        ["cluster", "info"],
        ["instance", "list"],
        ["instance", "info", "web"],
        ["job", "list"],
        ["os", "env", "web"],
        ["cluster", "verify"],
    ):
        used.run(*words, ok=words[-1] != "verify")
        used.run(*words, "--json", ok=words[-1] != "verify")
    used.run("cluster", "renew-crypto")
    for words in (
        ["file", "log"],
        ["file", "diff", "1", "3"],
        ["file", "explain", "/etc/ganeti/rapi_users", "--node", "node2"],
        ["cluster", "keys"],
        ["cluster", "access", "list"],
        ["cluster", "audit", "list"],
    ):
        used.run(*words)
        used.run(*words, "--json")
    used.run("file", "remove", "/etc/ganeti/large")
    used.run("node", "remove", "node3")


def private_keys(mesh: RunningMesh) -> list[tuple[Path, Planted]]:
    """Return every private key that there is now, each with the file that alone may hold it."""
    found = [(path, path.read_bytes().strip()) for path in mesh.dir.rglob("*.nk")]
    for path in (mesh.dir / "keys/ca.key", mesh.dir / "broker/tls.pem"):
        found.append((path, path.read_bytes().splitlines()[2]))  # in the middle of the key
    scopes = mesh.node_root("node1") / "var/lib/gnt-mesh/master/scope-keys.json"
    found += [(scopes, base64.b64decode(one["secret"])) for one in json.loads(scopes.read_bytes()).values()]
    return [(path, Planted(path.name, token, token)) for path, token in found]


def scan(
    scanner: Scanner,
    used: Used,
    temporary: Path,
    but_not: Callable[[RunningMesh, Path], bool] | None = None,
    *,
    script: int = 0,
) -> None:
    """Look everywhere, but not at the process of a script that has to know."""
    mesh = used.mesh
    but_not = but_not or may_hold_secrets
    for pid in {mesh.up.process.pid, *processes_of(mesh.dir)} - {script}:
        scanner.look_at_process(pid)
    for number, text in enumerate(used.printed):
        scanner.look(f"output {number}", text.encode())
    scanner.look("output of up", mesh.up.output.encode())
    for number, message in enumerate(used.spy.heard):
        scanner.look(f"message {number}, {message[:80]!r}", message)
    scanner.look_below(temporary)
    for shared in SHARED_TEMPORARY:
        scanner.look_at_newer(shared, than=temporary.parent / BEGUN)
    scanner.look_below(mesh.dir, but_not=lambda path: but_not(mesh, path))


def may_hold_secrets(mesh: RunningMesh, path: Path) -> bool:
    """The sources, the master's own state, the copies where they belong, and the ledgers beside them."""
    relative = path.relative_to(mesh.dir / "nodes") if path.is_relative_to(mesh.dir / "nodes") else Path("-")
    node, *rest = relative.parts
    inside = "/".join(rest)
    if node == "node1":
        return inside.startswith(("etc/ganeti/", "var/lib/gnt-mesh/master/"))
    return (node == "node2" and inside == "etc/ganeti/vnc-password") or inside in LEDGERS


def may_hold_private_parameters(mesh: RunningMesh, path: Path) -> bool:
    """config.data, and what the master has of it: its contents of each generation."""
    root = mesh.node_root("node1")
    return path == root / "var/lib/ganeti/config.data" or path.is_relative_to(root / "var/lib/gnt-mesh/master/blobs")


LEDGERS = tuple(f"var/lib/gnt-mesh/agent/{name}" for name in ("ledger.json", "ledger-2.json"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where all programs of this mesh put temporary files."""
    (tmp_path / BEGUN).touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_no_secret_is_anywhere_but_where_it_belongs(tmp_path: Path, temporary: Path) -> None:
    with running_mesh(tmp_path, nodes=3, candidate_pool_size=1) as mesh:
        until(lambda: (mesh.dir / "operator.toml").exists(), near=mesh.dir)
        with Spy(mesh.dir) as spy:
            used = Used(mesh, spy)
            private, secret = Scanner([PRIVATE]), Scanner([PARAMETER])

            def scan_parameters(script: int = 0) -> None:
                scan(private, used, temporary, may_hold_private_parameters, script=script)
                scan(secret, used, temporary, lambda *_: False, script=script)

            def look(script: int) -> None:
                has = Scanner([PRIVATE, PARAMETER])
                has.look_at_process(script)
                assert len(has.finds) >= 2 and all("environ" in find and "itself" in find for find in has.finds)
                scan_parameters(script)

            install(used, tmp_path / "disk0", look)
            use(used)
        scan_parameters()
        scanner, control = Scanner(SECRETS), Scanner([OPEN])
        scan(scanner, used, temporary)
        scan(control, used, temporary)

        keys = private_keys(mesh)
        for path, planted in keys:
            assert planted.found_in(path.read_bytes()), path
        kept, files = Scanner([planted for _, planted in keys]), {path for path, _ in keys}
        scan(kept, used, temporary, but_not=lambda _, path: path in files)

        config_data = mesh.node_root("node1") / "var/lib/ganeti/config.data"
        assert PRIVATE.found_in(config_data.read_bytes()), "it is stored where it may be"
        candidates_only = Scanner([CANDIDATES])
        for ledger in LEDGERS:
            candidates_only.look(ledger, (mesh.node_root("node3") / ledger).read_bytes())

    assert scanner.finds + candidates_only.finds == []
    assert private.finds + secret.finds == []
    assert kept.finds == [] and len(files) > 8, "private keys are in their own files alone"
    assert scanner.looked_at > 500
    places = {find.split(":")[0].split(",")[0].split(" ")[0] for find in control.finds}
    assert {"message", "output"} <= places, "the scanner does see what is there"
    assert any("/broker/" in find and "itself" in find for find in control.finds)
    assert any("/log/" in find for find in control.finds)


@pytest.mark.parametrize("form", CANDIDATES.needles)
def test_the_scanner_finds_every_form(form: str) -> None:
    scanner = Scanner(SECRETS)

    scanner.look("here", b"before " + CANDIDATES.needles[form] + b" after")

    assert f"here: a candidates' file: {form}" in scanner.finds


@pytest.mark.parametrize("skip", range(3))
def test_the_scanner_finds_a_secret_within_base64(skip: int) -> None:
    data = base64.b64encode(b"x" * skip + CANDIDATES.content + b"more")

    assert CANDIDATES.found_in(data)


def test_the_scanner_finds_a_secret_in_a_message() -> None:
    digest = Digest(hashlib.sha256(CANDIDATES.content).hexdigest())
    message = codec.encode(BlobWanted(node=NodeName("node1"), scope=ALL, digest=digest))

    assert CANDIDATES.found_in(message) == ["a candidates' file: its hash"]
