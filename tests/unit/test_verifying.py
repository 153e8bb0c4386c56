"""node_agent/verifying.py: what the master is told of this disk when it asks."""

import asyncio
import os
from pathlib import Path

import pytest

from node_agent.disk import LocalDisk
from node_agent.files import NodeFiles
from node_agent.verifying import Verifying
from protocol.errors import Unavailable
from protocol.names import ManagedPath, NodeName
from protocol.verify_messages import FileSeen, LookAtFiles
from tests.support.local_disk import a_disk
from tests.support.values import digest_of

NODE = NodeName("node2")
PATH = ManagedPath("/etc/ganeti/file")
OWNER, GROUP = Path("/proc/self").owner(), Path("/proc/self").group()


def a_node(root: Path) -> LocalDisk:
    (root / "etc/ganeti").mkdir(parents=True)
    files = NodeFiles(root, allowed=["/etc"], protected=["/etc/gnt-mesh"], backups=root.parent / "backups")
    return a_disk(files, root.parent / "state")


async def look(files: LocalDisk, *paths: str) -> tuple[FileSeen, ...]:
    answer = await Verifying(NODE, files).look(LookAtFiles(paths=tuple(ManagedPath(path) for path in paths)))
    assert answer.node == NODE
    return answer.files


async def test_a_file_is_told_with_content_size_mode_and_owner(tmp_path: Path) -> None:
    files = a_node(tmp_path / "root")
    (tmp_path / "root/etc/ganeti/file").write_bytes(b"by hand")
    (tmp_path / "root/etc/ganeti/file").chmod(0o640)

    (there, absent) = await look(files, PATH, "/etc/ganeti/none")

    assert there == FileSeen(
        path=PATH,
        what="file",
        digest=digest_of("by hand"),
        size_bytes=7,
        mode=0o640,
        owner=OWNER,
        group=GROUP,
        uid=os.geteuid(),
        gid=os.getegid(),
    )
    assert absent == FileSeen(path=ManagedPath("/etc/ganeti/none"), what="absent")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/root/secret", "outside the paths this node allows"),
        ("/etc/gnt-mesh/agent.nk", "protected on this node"),
        ("/etc/ganeti/link", "is a symbolic link"),
        ("/etc/ganeti", "is a directory"),
    ],
)
async def test_what_the_node_does_not_allow_is_not_read_and_said(tmp_path: Path, path: str, reason: str) -> None:
    """A master that was broken into learns no hash of what it may not write."""
    root = tmp_path / "root"
    files = a_node(root)
    for secret in ("root/secret", "etc/gnt-mesh/agent.nk"):
        (root / secret).parent.mkdir(parents=True, exist_ok=True)
        (root / secret).write_text("secret")
    (root / "etc/ganeti/link").symlink_to(root / "root/secret")

    (there,) = await look(files, path)

    assert (there.what, there.digest, there.size_bytes) == ("blocked", "", 0)
    assert reason in there.reason


async def test_a_flood_of_requests_costs_one_look(tmp_path: Path) -> None:
    """A FIFO that nobody writes to would hold a reader for ever; a regular one is held by the test's own thread."""
    disk = SlowDisk(a_node(tmp_path / "root"))
    verifying = Verifying(NODE, disk)  # type: ignore[arg-type]
    request = LookAtFiles(paths=(PATH,))
    first = asyncio.create_task(verifying.look(request))
    await disk.started.wait()

    for _ in range(100):
        with pytest.raises(Unavailable, match="busy with another verify"):
            await verifying.look(request)

    disk.go_on.set_result(None)
    assert (await first).files[0].what == "absent"
    assert disk.looks == 1
    assert (await verifying.look(request)).files[0].what == "absent"


class SlowDisk:
    """Looks, but not before it may."""

    def __init__(self, disk: LocalDisk) -> None:
        self.looks = 0
        self.started = asyncio.Event()
        self.go_on: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._disk = disk

    async def observe(self, paths: tuple[ManagedPath, ...], *, afresh: bool) -> object:
        assert afresh
        self.looks += 1
        self.started.set()
        await asyncio.shield(self.go_on)
        return await self._disk.observe(paths, afresh=afresh)
