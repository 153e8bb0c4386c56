"""What the master keeps on its own disk: the authority from which everything on the bus can be made again.

config.data below the node's root; in the state directory the history of generations and, by hash, every content that
a kept generation names. Written durably, read whole at the start.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from master.core.cluster import ClusterConfig, from_text, to_text
from master.core.history import Generation, History
from protocol import durable
from protocol.errors import Refused, Unavailable
from protocol.messages import Manifest
from protocol.names import Digest, ScopeName

READ_BYTES = 1024 * 1024

CHANGED_BY_HAND: Final = (
    "is not as this master wrote it, and was left as it is; to have the change read, restart the master; "
    "to undo it, copy the file back from a master candidate"
)


class Store:
    """Every method blocks for as long as the disk does; OSErrors arrive as Unavailable."""

    def __init__(self, state_dir: Path, config_data: Path) -> None:
        self._config_data = config_data
        self._history_dir = state_dir / "history"
        self._blobs_dir = state_dir / "blobs"
        self._text = b""
        self._scopes: tuple[ScopeName, ...] = ()
        self._history: dict[int, Generation] = {}

    def open(self) -> ClusterConfig:
        """Return the cluster config and read the history. Refused if either is missing or damaged."""
        try:
            text = self._config_data.read_bytes()
        except FileNotFoundError:
            raise Refused(f"{self._config_data}: there is no cluster here; the master's node has one") from None
        except OSError as error:
            raise Refused(f"{self._config_data}: {error.strerror}") from error
        try:
            config = from_text(text)
        except Refused as error:
            raise Refused(
                f"{self._config_data}: {error}; it was left as it is: repair it there, or copy it back from a candidate"
            ) from error
        self._text = text
        self._scopes = config.scopes()
        try:
            for directory in (self._history_dir, self._blobs_dir):
                durable.make_directory(directory)
                durable.sweep(directory)
        except OSError as error:
            raise Refused(f"{directory}: {error.strerror}") from error
        for path in sorted(self._history_dir.glob("*.json")):
            self._read_generation(path)
        return config

    def save_config(self, config: ClusterConfig) -> None:
        """Replace config.data. Refused if somebody else has changed it meanwhile: that is for a person to sort out."""
        with unavailable(f"cannot write {self._config_data}"):
            if self._config_data.exists() and self._config_data.read_bytes() != self._text:
                raise Refused(f"{self._config_data} {CHANGED_BY_HAND}")
            save_config(self._config_data, config)
        self._text = to_text(config).encode()
        self._scopes = config.scopes()

    def is_ours(self, digest: Digest) -> bool:
        """True for the hash of config.data as it was last read or written here."""
        return hashlib.sha256(self._text).hexdigest() == digest

    @property
    def generation(self) -> int:
        """The last generation, 0 before the first."""
        return max(self._history, default=0)

    @property
    def kept(self) -> int:
        """How many generations the history holds as they were."""
        return sum(not entry.is_remainder for entry in self._history.values())

    def history(self) -> History:
        """Return all that is kept, in the order of generations, remainders included."""
        return [self._history[number] for number in sorted(self._history)]

    def manifests(self) -> dict[ScopeName, Manifest]:
        """Return the newest manifest of every scope that the cluster config has; the history may know older scopes."""
        newest: dict[ScopeName, Manifest] = {}
        for number in sorted(self._history):
            newest |= {manifest.scope: manifest for manifest in self._history[number].manifests}
        return {scope: newest[scope] for scope in self._scopes if scope in newest}

    def add_generation(self, entry: Generation) -> None:
        """Make a generation durable. Only then may it be published."""
        assert entry.generation > self.generation, f"generation {entry.generation} after {self.generation}"
        self._write_generation(entry)

    def collect(self, keep: int, scopes: Iterable[ScopeName]) -> set[Digest]:
        """Forget generations beyond the newest `keep` and contents that no kept one names; return the latter.

        Of an older generation those manifests stay, as a remainder, that were in force in the oldest kept one: what was
        published in a kept generation can always be told in full.
        """
        with unavailable(f"cannot remove what is no longer kept from {self._history_dir.parent}"):
            numbers = sorted(self._history)
            beyond = numbers[: max(len(numbers) - keep, 0)]
            in_force = {(self._newest_of(scope, numbers[len(beyond)]), scope) for scope in scopes if numbers}
            for number in beyond:
                manifests = self._history[number].manifests
                self._keep_remainder(number, [m for m in manifests if (number, m.scope) in in_force])
            unnamed = self._unnamed()
            for digest in unnamed:
                self.blob_path(digest).unlink(missing_ok=True)
        return unnamed

    def _keep_remainder(self, number: int, manifests: Sequence[Manifest]) -> None:
        """Shorten a generation to these manifests; without any it is forgotten."""
        if not manifests:
            (self._history_dir / _file_name(number)).unlink(missing_ok=True)
            del self._history[number]
            return
        remainder = replace(self._history[number], manifests=tuple(manifests), is_remainder=True)
        if remainder != self._history[number]:
            self._write_generation(remainder)

    def _unnamed(self) -> set[Digest]:
        named = {
            entry.digest for kept in self._history.values() for manifest in kept.manifests for entry in manifest.files
        }
        stored = (path.name for path in self._blobs_dir.iterdir() if not durable.is_temporary(path.name))
        return {Digest(name) for name in stored if name not in named}

    def blob_path(self, digest: Digest) -> Path:
        return self._blobs_dir / digest

    @property
    def blobs_dir(self) -> Path:
        return self._blobs_dir

    def is_intact(self, digest: Digest) -> bool:
        """True if the content is here and its hash is right: read in full."""
        hasher = hashlib.sha256()
        try:
            with self.blob_path(digest).open("rb") as file:
                while part := file.read(READ_BYTES):
                    hasher.update(part)
        except OSError:
            return False
        return hasher.hexdigest() == digest

    def begins_with(self, digest: Digest, beginning: Digest, size_bytes: int) -> bool:
        """True if the first bytes of a stored content are another content; False if it is not here."""
        hasher = hashlib.sha256()
        try:
            with self.blob_path(digest).open("rb") as file:
                while size_bytes and (part := file.read(min(READ_BYTES, size_bytes))):
                    hasher.update(part)
                    size_bytes -= len(part)
        except OSError:
            return False
        return not size_bytes and hasher.hexdigest() == beginning

    def _write_generation(self, entry: Generation) -> None:
        path = self._history_dir / _file_name(entry.generation)
        text = msgspec.json.format(msgspec.json.encode(entry), indent=1)
        with unavailable(f"cannot write {path}"):
            durable.write_file(path, text + b"\n")
        self._history[entry.generation] = entry

    def _newest_of(self, scope: ScopeName, at_most: int) -> int | None:
        """Return which generation has the manifest of a scope that was in force in generation `at_most`."""
        holding = (n for n, entry in self._history.items() if any(m.scope == scope for m in entry.manifests))
        return max((number for number in holding if number <= at_most), default=None)

    def _read_generation(self, path: Path) -> None:
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Generation)
            if path.name != _file_name(entry.generation):
                raise ValueError(f"it holds generation {entry.generation}")
        except (OSError, msgspec.DecodeError, ValueError) as error:
            raise Refused(f"{path} is damaged: {error}; move it away to go on without this generation") from error
        self._history[entry.generation] = entry


def save_config(path: Path, config: ClusterConfig) -> None:
    """Write config.data durably, for its owner and group alone."""
    durable.make_directory(path.parent, mode=0o755)
    durable.write_file(path, to_text(config).encode(), mode=0o640)


def _file_name(generation: int) -> str:
    return f"{generation:012d}.json"


@contextmanager
def unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{what}: {error.strerror}") from error
