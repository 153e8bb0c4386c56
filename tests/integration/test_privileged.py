"""The privileged process does what the master has signed, and nothing that an agent makes up. It is a real one."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from node_agent.privileged import messages as m
from node_agent.privileged.frames import FRAME_BYTES_MAX
from protocol.errors import MeshError, Refused
from protocol.key_messages import KeyTold, Trust
from protocol.messages import FileEntry, Withdrawal
from protocol.names import ALL, MASTER_CANDIDATES, ManagedPath, ScopeName
from protocol.os_names import JobId
from protocol.sealing import envelopes
from protocol.sealing.boxes import new_scope_key
from tests.support.forked import in_child
from tests.support.helper_rig import NODE, HelperRig, another_signer, framed

X, Y = "/etc/ganeti/x", "/etc/ganeti/y"
NOT_SAID = "do not say so"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[HelperRig]:
    rig = HelperRig(tmp_path)
    rig.start()
    yield rig
    rig.close()
    assert "Traceback" not in rig.log.read_text(), rig.log.read_text()


# ---- what it does


async def test_what_the_master_lists_is_written(rig: HelperRig) -> None:
    first, second = rig.entry(X, "one", mode=0o600), rig.entry(Y, "two" * 1_000_000)
    rig.assign(ALL)
    rig.publish(first, second)

    outcome = await rig.put(first, second)

    assert outcome.errors == {}
    assert (outcome.found[first.path].digest, outcome.found[first.path].mode) == (first.digest, 0o600)
    assert rig.tree() == {"etc/ganeti/x": b"one", "etc/ganeti/y": b"two" * 1_000_000}
    found = await rig.disk.observe({first.path, ManagedPath("/etc/none")}, afresh=True)
    assert found[first.path].digest == first.digest and found[ManagedPath("/etc/none")].kind == "absent"


async def test_a_large_manifest_and_long_lists_come_in_parts(rig: HelperRig) -> None:
    files = [rig.entry(f"/etc/many/{number:04}", "the same") for number in range(2500)]
    rig.assign(ALL)
    rig.publish(*files, inline=False)
    outcome = await rig.put(*files)
    assert not outcome.errors and len(outcome.found) == 2500
    assert len(await rig.disk.observe([file.path for file in files], afresh=False)) == 2500
    memory, _ = await rig.new_agent().recall()
    assert memory.known.keys() == {file.path for file in files} and memory.versions == {ALL: (1, 1)}


async def test_a_secret_is_opened_with_the_key_in_the_signed_assignment(rig: HelperRig) -> None:
    """The agent hands no key over: the privileged process has the node's own, and opens what was wrapped for it."""
    key = new_scope_key()
    secret = rig.entry(X, "secret", mode=0o600, secret=True)
    rig.assign(MASTER_CANDIDATES, keys={MASTER_CANDIDATES: key})
    rig.publish(secret, scope=MASTER_CANDIDATES, key=key)
    assert (await rig.put(secret, scope=MASTER_CANDIDATES)).errors == {}
    assert rig.on_disk(X).read_bytes() == b"secret"

    rig.publish(
        rig.entry(X, "other", generation=2, secret=True), scope=MASTER_CANDIDATES, generation=2, key=new_scope_key()
    )
    outcome = await rig.put(rig.entry(X, "other", generation=2, secret=True), scope=MASTER_CANDIDATES)
    assert NOT_SAID in outcome.errors[ManagedPath(X)], "sealed with a key that the master has not given this node"


async def test_what_is_withdrawn_goes_and_what_the_master_keeps_stays(rig: HelperRig) -> None:
    file, other = rig.entry(X, "one"), rig.entry(Y, "two")
    rig.assign(ALL)
    rig.publish(file, other)
    await rig.put(file, other)

    assert NOT_SAID in (await rig.remove(X)).errors[file.path]
    rig.publish(other, generation=2, withdrawn=[Withdrawal(path=file.path, generation=2)])
    assert (await rig.remove(X)).errors == {}

    assert rig.tree() == {"etc/ganeti/y": b"two"}
    assert [path.name for path in (rig.state_dir / "backups").iterdir()], "a copy is kept"
    assert file.path not in (await rig.disk.recall())[0].known


async def test_changes_by_hand_are_told(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL)
    rig.publish(file)
    await rig.put(file)
    running = asyncio.create_task(rig.disk.run())
    rig.disk.watch({file.path})
    async with asyncio.timeout(20):
        while (await rig.disk.touched()).paths is not None:
            continue
        rig.on_disk(X).write_text("by hand")
        while file.path not in ((await rig.disk.touched()).paths or ()):
            continue
    running.cancel()


async def test_no_answer_is_lost_because_the_agent_still_speaks(rig: HelperRig) -> None:
    """The helper has a file before the agent has said that this was all of it."""
    rig.assign(ALL)
    for generation in range(1, 101):
        file = rig.entry(X, f"{generation}", generation=generation)
        rig.publish(file, generation=generation)
        assert (await rig.put(file)).errors == {}


async def test_kill_9_loses_nothing(rig: HelperRig) -> None:
    """What was written is known again, and what the master has said since does not go back."""
    file = rig.entry(X, "one")
    rig.assign(ALL)
    rig.publish(file, generation=5)
    await rig.put(file)
    rig.kill()
    rig.start()
    memory, _ = await rig.disk.recall()
    assert memory.known[file.path].digest == file.digest
    assert (memory.serial, memory.versions) == ((1, 1), {ALL: (1, 5)})
    rig.on_disk(X).write_text("damaged")
    assert (await rig.put(file)).errors == {}, "the agent shows the master's word again by itself"
    assert rig.on_disk(X).read_bytes() == b"one"


async def test_killed_in_the_middle_of_a_change_it_leaves_nothing_half_done(rig: HelperRig) -> None:
    first, second = rig.entry(X, "one"), rig.entry(Y, "two")
    rig.assign(ALL)
    rig.publish(first, second)
    staged = asyncio.Event()

    async def fetch(scope: ScopeName, entry: FileEntry) -> AsyncIterator[bytes]:
        yield rig.contents[entry.digest][:1]
        staged.set()
        await asyncio.Event().wait()

    rig_fetch, rig.fetch = rig.fetch, fetch  # type: ignore[method-assign]
    putting = asyncio.create_task(rig.put(first, second))
    await staged.wait()
    rig.kill()
    outcome = await putting
    assert outcome.errors.keys() == {first.path, second.path} and not outcome.found
    rig.fetch = rig_fetch  # type: ignore[method-assign]
    rig.start()
    assert rig.tree() == {}, "what interrupted writes leave is swept at the start"
    assert (await rig.put(first, second)).errors == {}


# ---- what it refuses


async def refused(rig: HelperRig, *files: FileEntry, scope: ScopeName = ALL, says: str = NOT_SAID) -> None:
    """Nothing is written, with the reason, and the next question is answered."""
    before = rig.tree()
    outcome = await rig.put(*files, scope=scope)
    assert outcome.found == {} and {says in reason for reason in outcome.errors.values()} == {True}, outcome
    assert rig.tree() == before and rig.fetched == []
    await rig.disk.recall()


async def test_a_file_that_nobody_has_listed(rig: HelperRig) -> None:
    rig.assign(ALL)
    rig.publish(rig.entry(Y, "two"))
    await refused(rig, rig.entry(X, "one"))


@pytest.mark.parametrize("change", [{"mode": 0o4755}, {"content": "other"}, {"generation": 2}])
async def test_a_listed_file_made_otherwise(rig: HelperRig, change: dict[str, int]) -> None:
    rig.assign(ALL)
    rig.publish(rig.entry(X, "one"))
    await refused(rig, rig.entry(X, **({"content": "one"} | change)))  # type: ignore[arg-type]


async def test_a_manifest_that_another_has_signed(rig: HelperRig, tmp_path: Path) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL)
    rig.publish(file, signer=another_signer(tmp_path))
    await refused(rig, file)
    assert "not this cluster's master" in rig.log.read_text()


async def test_an_assignment_that_another_has_signed(rig: HelperRig, tmp_path: Path) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL, MASTER_CANDIDATES, signer=another_signer(tmp_path))
    rig.publish(file, scope=MASTER_CANDIDATES)
    await refused(rig, file, scope=MASTER_CANDIDATES)


async def test_a_manifest_of_a_scope_that_the_node_is_not_in(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL)
    rig.publish(file, scope=MASTER_CANDIDATES)
    await refused(rig, file, scope=MASTER_CANDIDATES)
    assert "this node is not in that scope" in rig.log.read_text()


async def test_an_older_generation_also_after_a_restart(rig: HelperRig) -> None:
    old, new = rig.entry(X, "old", generation=1), rig.entry(X, "new", generation=2)
    rig.assign(ALL, serial=2)
    rig.publish(new, generation=2)
    assert (await rig.put(new)).errors == {}
    rig.kill()
    rig.start()
    rig.fetched.clear()
    rig.new_agent()
    rig.assign(ALL, serial=2)
    rig.publish(old, generation=1)
    await refused(rig, old)
    assert "older than 2, which this node has had" in rig.log.read_text()
    rig.new_agent()
    rig.assign(ALL, MASTER_CANDIDATES, serial=1)
    other = rig.entry(Y, "two")
    rig.publish(other, scope=MASTER_CANDIDATES)
    await refused(rig, other, scope=MASTER_CANDIDATES)
    assert "older than 2" in rig.log.read_text()


async def test_a_path_outside_of_what_this_node_allows(rig: HelperRig) -> None:
    """Whoever signs it: what is allowed here is for this node's administrator to say."""
    outside, keys = rig.entry("/var/lib/x", "one"), rig.entry("/etc/gnt-mesh/master.pub", "one")
    rig.assign(ALL)
    rig.publish(outside, keys)
    await refused(rig, outside, says="outside the paths this node allows")
    await refused(rig, keys, says="protected on this node")


async def test_a_link_on_the_way_or_in_the_place(rig: HelperRig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    rig.on_disk("/etc/way").symlink_to(tmp_path / "elsewhere")
    rig.on_disk("/etc/place").symlink_to(tmp_path / "elsewhere/file")
    through, over = rig.entry("/etc/way/file", "one"), rig.entry("/etc/place", "one")
    rig.assign(ALL)
    rig.publish(through, over)
    await refused(rig, through, over, says="a symbolic link")
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_content_that_is_not_what_the_manifest_says(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.contents[file.digest] = b"two"
    rig.assign(ALL)
    rig.publish(file)
    outcome = await rig.put(file)
    assert outcome.errors == {file.path: "content with another digest than the manifest says"}
    assert rig.tree() == {}


async def test_a_removal_of_what_the_mesh_has_not_written(rig: HelperRig) -> None:
    rig.on_disk("/etc/passwords").write_text("the administrator's")
    rig.assign(ALL)
    rig.publish()
    outcome = await rig.remove("/etc/passwords")
    assert NOT_SAID in outcome.errors[ManagedPath("/etc/passwords")]
    assert rig.tree() == {"etc/passwords": b"the administrator's"}


async def test_sources_are_never_written(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL, is_master=True)
    rig.publish(file)
    await refused(rig, file)


async def test_on_the_node_that_becomes_the_master_nothing_is_the_meshs_any_more(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL)
    rig.publish(file)
    await rig.put(file)
    rig.assign(ALL, serial=2, is_master=True)
    await rig.disk.observe({file.path}, afresh=False)
    assert (await rig.disk.recall())[0].known == {}


async def test_a_node_that_is_offline_takes_nothing_newer(rig: HelperRig) -> None:
    file = rig.entry(X, "one")
    rig.assign(ALL, is_offline=True)
    rig.publish(file)
    await refused(rig, file)
    rig.assign(ALL, serial=2)
    assert (await rig.put(file)).errors == {}, "and takes it when it is online again"


async def test_whom_to_believe_is_kept_on_the_masters_word_alone(rig: HelperRig) -> None:
    successor, authorities = another_signer(rig.directory), rig.directory / "ca.pem"
    trust, subject = Trust(authorities="new", master_keys=(successor.public_key,)), f"mesh.rpc.{NODE}.take-trust"
    for forged in (
        envelopes.signed(subject, trust, successor),
        envelopes.signed("mesh.rpc.node3.take-trust", trust, rig.signer),
        envelopes.signed(subject, KeyTold(), rig.signer),
    ):
        with pytest.raises(MeshError):
            await rig.disk.keep_trust(forged)
    assert not authorities.exists() and (rig.directory / "master.pub").read_text().split() == [rig.signer.public_key]
    rig.assign(ALL)
    await rig.put()

    await rig.disk.keep_trust(envelopes.signed(subject, trust, rig.signer))

    assert authorities.read_text() == "new"
    assert (rig.directory / "master.pub").read_text().split() == [successor.public_key]
    former, file = rig.signer, rig.entry(X, "one")
    rig.publish(file, signer=successor)
    assert (await rig.put(file)).errors == {}
    other = rig.entry(Y, "two", generation=2)
    rig.publish(file, other, generation=2, signer=former)
    assert NOT_SAID in (await rig.put(other)).errors[other.path]


async def test_a_seed_that_is_none(rig: HelperRig) -> None:
    before = (rig.directory / "agent.nk").read_bytes()
    with pytest.raises(Refused, match="not the nkey seed of a user"):
        await rig.disk.keep_seed("nonsense")
    assert (rig.directory / "agent.nk").read_bytes() == before


HELLO = framed(msgspec.msgpack.encode(m.Hello()))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (HELLO + framed(msgspec.msgpack.encode({"type": "RunThis", "argv": ["/bin/sh"]})), b"not understood"),
        (HELLO + framed(b"\xc1\xc1\xc1"), b"not understood"),
        (HELLO + framed(msgspec.msgpack.encode(m.Look())), b"a Look is no question"),
        (HELLO + framed(msgspec.msgpack.encode({"type": "Recall", "also": 1})), b"not understood"),
        (HELLO + framed(msgspec.msgpack.encode(m.Output(job=JobId("../../agent.nk"), offset=0))), b"job id"),
        (HELLO + (FRAME_BYTES_MAX + 1).to_bytes(4, "big"), b"limit"),
        (HELLO + b"\xff\xff\xff\xff", b"limit"),
        (framed(msgspec.msgpack.encode(m.Recall())), b"where a Hello belongs"),
        (HELLO + framed(msgspec.msgpack.encode(m.Recall()))[:-1], b"the connection was closed"),
        (HELLO + b"\0", b"the connection was closed"),
    ],
)
async def test_what_nobody_understands(rig: HelperRig, said: bytes, reason: bytes) -> None:
    answer = await asyncio.to_thread(rig.say, said)
    assert reason in answer, answer
    assert rig.tree() == {}
    await rig.disk.recall()


async def test_half_a_question_holds_nobody_up(rig: HelperRig) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as half:
        half.connect(str(rig.socket))
        half.sendall(HELLO + b"\0\0")
        file = rig.entry(X, "one")
        rig.assign(ALL)
        rig.publish(file)
        assert (await rig.put(file)).errors == {}


async def test_a_flood_of_connections_is_refused_and_forgotten(rig: HelperRig) -> None:
    open_ones = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(100)]
    for one in open_ones:
        one.connect(str(rig.socket))
    answer = await asyncio.to_thread(rig.say, HELLO)
    assert b"questions are being answered already" in answer
    for one in open_ones:
        one.close()
    await rig.disk.recall()


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user takes root")
async def test_another_user_is_not_answered(rig: HelperRig) -> None:
    """The kernel says who asks. The socket's own mode is not what it rests on."""
    for above in (rig.socket.parent, *rig.socket.parent.parents):
        if above.stat().st_uid == 0 and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    rig.socket.chmod(0o666)

    def ask() -> bytes:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        return rig.say(HELLO + framed(msgspec.msgpack.encode(m.Recall())))

    assert b"user 65534 may not ask" in await asyncio.to_thread(in_child, ask)
    await rig.disk.recall()
