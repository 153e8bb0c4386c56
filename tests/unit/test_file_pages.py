"""`file.list`: however many files there are, each answer is a message, and all of them together are the list."""

from types import SimpleNamespace
from typing import Any

from master.api.files import FileVerbs
from master.core.ancillary import ManagedFile
from protocol import codec
from protocol.names import ALL, ManagedPath
from protocol.operator_messages import FileInfos, FileQuery
from protocol.paging import ask_files

COUNT = 3500
PATHS = [ManagedPath(f"/etc/many/a-rather-long-name-{number:05}") for number in range(COUNT)]


class Master:
    """An operator's bus to the verbs of a master that has nothing but files."""

    def __init__(self) -> None:
        files = tuple(ManagedFile(path=path, scope=ALL, rule="list", reason="a test") for path in PATHS)
        desired = SimpleNamespace(files=lambda: files, manifests={}, vault=None, problems=())
        daemon: Any = SimpleNamespace(desired=desired)
        self._handle = FileVerbs(daemon).handlers()["file.list"][1]
        self.answers = 0

    async def ask(self, verb: str, request: FileQuery, reply: type[FileInfos]) -> FileInfos:
        self.answers += 1
        data = codec.encode(await self._handle(request))
        assert len(data) <= codec.MESSAGE_BYTES_MAX
        return codec.decode(data, reply)


async def test_all_files_are_listed() -> None:
    master: Any = Master()

    assert [file.path for file in await ask_files(master)] == PATHS
    assert master.answers > 1


async def test_files_that_are_named_are_one_short_answer() -> None:
    master: Any = Master()

    assert [file.path for file in await ask_files(master, (PATHS[7], PATHS[3]))] == [PATHS[3], PATHS[7]]
    assert master.answers == 1
