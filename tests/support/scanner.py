"""Looks for planted secrets: in every form in which they could lie about, wherever bytes of a mesh can be found."""

import base64
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

TOKEN_BYTES = 24
HASH_CHARS = 12
"""Programs shorten a hash when they show it; with this much of it a short password can still be found by trying."""


@dataclass(frozen=True)
class Planted:
    """A content and what would give it away. `token` is in it, or all of it, and nowhere else in the world."""

    name: str
    content: bytes
    token: bytes

    @property
    def needles(self) -> dict[str, bytes]:
        digest = hashlib.sha256(self.content)
        encoded = (base64.b64encode(bytes(skip) + self.token)[4 * (skip > 0) : -4] for skip in range(3))
        forms = {f"base64, {index}": part for index, part in enumerate(encoded)}
        return forms | {
            "itself": self.token,
            "hexadecimal": self.token.hex().encode(),
            "its hash": digest.hexdigest()[:HASH_CHARS].encode(),
            "its hash, as bytes": digest.digest(),
        }

    def found_in(self, data: bytes) -> list[str]:
        return [f"{self.name}: {form}" for form, needle in self.needles.items() if needle in data]


def plant(name: str, *, lines: int = 0) -> Planted:
    """Return a content that nobody has ever seen: one token, or many lines of it."""
    token = secrets.token_urlsafe(TOKEN_BYTES).encode()
    return Planted(name, (token + b"\n") * lines if lines else token, token)


@dataclass
class Scanner:
    """Gathers what was found: `where` and in which form."""

    planted: Iterable[Planted]
    finds: list[str] = field(default_factory=list)
    looked_at: int = 0

    def look(self, where: str, data: bytes) -> None:
        self.looked_at += 1
        self.finds += [f"{where}: {found}" for planted in self.planted for found in planted.found_in(data)]

    def look_below(self, directory: Path, *, but_not: Callable[[Path], bool] = lambda path: False) -> None:
        """Read every file below a directory, hidden and temporary ones too; its name is looked at as well."""
        for path in files_below(directory):
            if not but_not(path):
                with contextlib.suppress(FileNotFoundError):
                    self.look(str(path), str(path).encode() + b"\n" + path.read_bytes())

    def look_at_newer(self, directory: Path, *, than: Path) -> None:
        """Read the files right in a directory that all share which were written after another one was."""
        for path in directory.iterdir():
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if path.is_file() and path.stat().st_mtime >= than.stat().st_mtime:
                    self.look(str(path), path.read_bytes())

    def look_at_process(self, pid: int) -> None:
        """Read what everybody, or its owner, can see of a process."""
        for name in ("cmdline", "environ"):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                self.look(f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes())


def files_below(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path
