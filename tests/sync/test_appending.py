"""What only grew at its end goes up as its tail, onto exactly the version it grew from, and is not fetched for it."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from cloudfs.content.tails import TailProof, is_tail_proof
from cloudfs.types import RemotePath
from tests.model.account import Account
from tests.model.fake_remote import FakeRemote, FaultKind, now_s
from tests.sync.mount import World, opened, tell
from tests.sync.test_upload import copies

OLD = random.Random(7).randbytes(2_500_000)
"""Two blocks and a half."""
Story = Callable[[World], Awaitable[None]]


def sha1(content: bytes) -> str:
    return f"SHA1:{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"


def server(content: bytes = OLD, *, checksum: bool = True) -> FakeRemote:
    remote = FakeRemote(account=Account(now_s, sticky=True))
    remote.other.write("/a", content, mtime_s=1_600_000_000, checksum=sha1(content) if checksum else None)
    return remote


def run(tmp_path: Path, story: Story, remote: FakeRemote | None = None) -> FakeRemote:
    return tell(tmp_path, story, remote or server(), append_bytes=1024)


async def append(world: World, tail: bytes, path: str = "a") -> None:
    async with opened(world, path, os.O_WRONLY) as handle:
        size = (await world.lookup(path)).size
        await world.write(handle, size, tail)


def fetched(world: World) -> int:
    return world.engine.fetcher.statistics().received_bytes


def of_tails(remote: FakeRemote) -> list[str]:
    return [line for line in remote.methods() if line.split()[0] in {"copy_base", "put", "have_hashed"}]


IN_ORDER = ["copy_base /a", "put /a", "have_hashed /a"]


def test_only_the_tail_goes_up_and_nothing_comes_down(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await append(world, b"one line\n")
        await world.drain()
        assert fetched(world) == 0
        assert await world.read_file("a") == OLD + b"one line\n"

    remote = run(tmp_path, story)
    assert remote.other.read("/a") == OLD + b"one line\n"
    assert of_tails(remote) == IN_ORDER
    assert remote.sent_bytes == len(b"one line\n")


def test_the_file_stays_the_same_one_with_its_time_and_a_true_checksum(tmp_path: Path) -> None:
    remote = server()
    file_id = remote.other.file_id("/a")

    async def story(world: World) -> None:
        await append(world, b"!")
        shown = await world.lookup("a")
        await world.drain()
        assert remote.other.mtime_s("/a") == shown.mtime_ns // 10**9
        assert world.engine.store.attempts(shown.ino) == []

    run(tmp_path, story, remote)
    assert remote.other.file_id("/a") == file_id
    assert remote.other.checksum("/a") == sha1(OLD + b"!")


def test_one_tail_follows_another(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for number in range(4):
            await append(world, b"%d\n" % number)
            await world.drain()
        assert fetched(world) == 0

    remote = run(tmp_path, story)
    assert remote.other.read("/a") == OLD + b"0\n1\n2\n3\n"
    assert of_tails(remote) == IN_ORDER * 4


def test_a_file_made_longer_goes_up_as_zeros(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        ino = (await world.lookup("a")).ino
        async with opened(world, "a") as handle:
            await world.fs.setattr(ino, size=len(OLD) + 100_000, handle=handle)
            await world.write(handle, len(OLD) + 50_000, b"in the midst")
        await world.drain()
        assert fetched(world) == 0
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()

    remote = server()
    run(tmp_path, story, remote)
    assert remote.other.read("/a") == OLD + bytes(50_000) + b"in the midst" + bytes(49_988)
    assert of_tails(remote) == IN_ORDER


def whole(remote: FakeRemote, content: bytes) -> None:
    assert remote.other.read("/a") == content
    assert "copy_base /a" not in remote.methods() or remote.refuses_tails
    assert remote.other.checksum("/a") == sha1(content)


def test_a_byte_changed_before_the_end_sends_the_whole(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with opened(world, "a") as handle:
            await world.write(handle, len(OLD) - 1, b"!tail")
        await world.drain()

    whole(run(tmp_path, story), OLD[:-1] + b"!tail")


def test_what_was_cut_and_written_again_sends_the_whole(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        ino = (await world.lookup("a")).ino
        async with opened(world, "a") as handle:
            await world.fs.setattr(ino, size=len(OLD) - 10, handle=handle)
            await world.write(handle, len(OLD), b"tail")
        await world.drain()

    whole(run(tmp_path, story), OLD[:-10] + bytes(10) + b"tail")


def test_onto_a_version_without_a_checksum_the_whole_is_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await append(world, b"tail")
        await world.drain()

    whole(run(tmp_path, story, server(checksum=False)), OLD + b"tail")


def test_a_small_file_is_sent_whole(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await append(world, b"tail")
        await world.drain()

    whole(run(tmp_path, story, server(b"x" * 1023)), b"x" * 1023 + b"tail")


def test_a_server_that_takes_no_tails_gets_the_whole_and_is_not_asked_again(tmp_path: Path) -> None:
    remote = server()
    remote.refuses_tails = True

    async def story(world: World) -> None:
        await append(world, b"one")
        await world.drain()
        await append(world, b"two")
        assert world.unfinished()
        await world.drain()

    run(tmp_path, story, remote)
    whole(remote, OLD + b"onetwo")
    assert of_tails(remote) == ["put /a", "put /a"]


# What is cached


def test_cached_blocks_of_the_base_are_those_of_what_it_became(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert await world.read_file("a") == OLD
        await append(world, b"tail")
        await world.drain()
        before = fetched(world)
        world.engine.fetcher.forget()
        assert await world.read_file("a") == OLD + b"tail"
        assert fetched(world) == before

    assert of_tails(run(tmp_path, story)) == IN_ORDER


def test_a_reader_goes_on_while_and_after_the_tail_goes_up(tmp_path: Path) -> None:
    remote = server()
    remote.latency_s = 1.0

    async def story(world: World) -> None:
        async with opened(world, "a", os.O_RDONLY) as handle:
            await append(world, b"tail")
            found = b""
            while piece := await world.fs.read(handle, len(found), 50_000):
                found += piece
                await trio.sleep(0.3)
            assert found == OLD + b"tail"
            assert not world.unfinished(), "the upload was to happen in between"

    run(tmp_path, story, remote)


# Written during and after


def test_what_is_written_while_a_tail_goes_up_follows_it(tmp_path: Path) -> None:
    remote = server()
    remote.latency_s = 0.5

    async def story(world: World) -> None:
        await append(world, b"one")
        while not of_tails(remote):
            await trio.sleep(0.05)
        await append(world, b"two")
        await world.drain()
        assert await world.read_file("a") == OLD + b"onetwo"
        assert remote.sent_bytes == 6

    run(tmp_path, story, remote)
    assert remote.other.read("/a") == OLD + b"onetwo"


def test_an_early_byte_written_while_a_tail_goes_up_brings_the_rest_from_the_server(tmp_path: Path) -> None:
    remote = server()
    remote.latency_s = 0.5

    async def story(world: World) -> None:
        await append(world, b"one")
        while not of_tails(remote):
            await trio.sleep(0.05)
        async with opened(world, "a") as handle:
            await world.write(handle, 5, b"!")
        await world.drain()
        assert await world.read_file("a") == OLD[:5] + b"!" + OLD[6:] + b"one"

    run(tmp_path, story, remote)
    assert remote.other.read("/a") == OLD[:5] + b"!" + OLD[6:] + b"one"


# Answers that are lost

LOST = [FaultKind.LOSE_REPLY, FaultKind.REFUSE, FaultKind.FAULT, FaultKind.BAD_GATEWAY, FaultKind.CUT]
GO_ON: dict[str, tuple[Story | None, bytes]] = {
    "nothing": (None, OLD + b"one"),
    "more": (partial(append, tail=b"two"), OLD + b"onetwo"),
    "kill": (World.kill, OLD + b"one"),
}


@pytest.mark.parametrize("what", GO_ON)
@pytest.mark.parametrize("kind", LOST, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("method", ["copy_base", "put", "have_hashed"])
def test_a_lost_answer_is_no_conflict(tmp_path: Path, method: str, kind: FaultKind, what: str) -> None:
    remote = server()
    remote.faults.next(method, [kind])
    then, content = GO_ON[what]

    async def story(world: World) -> None:
        await append(world, b"one")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        if then is not None:
            await then(world)
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/a": content}

    run(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": content}
    assert remote.other.checksum("/a") == sha1(content)


def test_a_tail_that_arrived_and_is_overwritten_here_is_no_conflict(tmp_path: Path) -> None:
    remote = server()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await append(world, b"one")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        async with opened(world, "a") as handle:
            await world.write(handle, len(OLD) + 1, b"NE, two")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/a": OLD + b"oNE, two"}

    run(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": OLD + b"oNE, two"}


def test_a_reader_waits_until_it_is_known_whether_a_tail_arrived(tmp_path: Path) -> None:
    remote = server()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await append(world, b"one")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        assert await world.read_file("a") == OLD + b"one"

    run(tmp_path, story, remote)


def test_the_base_is_told_from_what_a_tail_made_of_it(tmp_path: Path) -> None:
    """The first try did not arrive, the second one did."""
    remote = server()
    remote.faults.next("put", [FaultKind.REFUSE, FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await append(world, b"one")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/a": OLD + b"one"}

    assert run(tmp_path, story, remote).other.tree() == {"/a": OLD + b"one"}


# Another client


async def another_writes(world: World, content: bytes, *, checksum: bool) -> None:
    """Another client replaces the base by another content with the same size, the same time and so the same ETag."""
    known = world.remote.account.get(RemotePath("/a")).version
    told = sha1(content) if checksum else None
    world.remote.other.write("/a", content, mtime_s=known.modified_s, checksum=told)
    assert world.remote.account.get(RemotePath("/a")).version.etag == known.etag


@pytest.mark.parametrize("checksum", [True, False], ids=["with a checksum", "without"])
@pytest.mark.parametrize("before", ["copy_base", "stat", "put"])
def test_the_tail_is_never_put_behind_another_content_with_the_same_etag(
    tmp_path: Path, before: str, checksum: bool
) -> None:
    theirs = b"!" + OLD[1:]
    remote = server()

    async def story(world: World) -> None:
        assert await world.read_file("a") == OLD
        await trio.sleep(60)
        remote.log.clear()
        write = partial(another_writes, world, theirs, checksum=checksum)
        remote.before[before] = write
        await append(world, b"tail")
        await world.drain()
        assert not remote.before, "it was to happen"
        await world.refresh_all()
        tree = await world.tree()
        assert tree == remote.other.tree()
        assert theirs + b"tail" not in tree.values()
        assert OLD + b"tail" in tree.values()

    run(tmp_path, story, remote)


@pytest.mark.parametrize("seen", [False, True])
def test_a_base_of_which_only_the_time_was_set_is_appended_to(tmp_path: Path, seen: bool) -> None:
    """It has another ETag and no checksum then: its bytes are looked at, and the tail goes behind them or with them."""
    remote = server()

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "a", os.O_WRONLY) as handle:
            await world.write(handle, len(OLD), b"one line\n")
            remote.account.set_mtime(RemotePath("/a"), 1_650_000_000)
            if seen:
                await world.refresh_all()
        with trio.fail_after(3600):
            await world.drain()

    run(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": OLD + b"one line\n"}


def test_another_version_of_the_base_is_a_conflict(tmp_path: Path) -> None:
    remote = server()

    async def story(world: World) -> None:
        assert await world.read_file("a") == OLD
        await append(world, b"tail")
        remote.other.write("/a", b"theirs")
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == remote.other.tree()
        assert tree["/a"] == b"theirs"
        assert list(copies(tree).values()) == [OLD + b"tail"]

    run(tmp_path, story, remote)


@pytest.mark.expect_log("not sent yet: another client replaced the version")
def test_another_version_of_a_base_that_was_never_read_leaves_the_tail_kept_here(tmp_path: Path) -> None:
    """What it was added to is nowhere any more: nobody gets anything else in its place, and the status says so."""
    remote = server()

    async def story(world: World) -> None:
        await append(world, b"tail")
        remote.other.delete("/a")  # with its old versions
        remote.other.write("/a", b"theirs")
        (trouble,) = await world.drain()
        assert trouble.blocked
        await world.kill()
        await world.refresh_all()
        (row,) = world.engine.store.all_staged()
        staged = next(world.staging.glob(f"{row.ino}.{row.version}")).read_bytes()
        assert staged[len(OLD) :] == b"tail"
        assert b"theirs" in [await world.read_file(path) for path, it in (await shown(world)) if it == 6]

    assert b"theirs" in run(tmp_path, story, remote).other.tree().values()


async def shown(world: World) -> list[tuple[str, int | None]]:
    return list((await world.walk()).shape().items())


def test_what_another_client_wrote_after_a_lost_tail_is_a_conflict(tmp_path: Path) -> None:
    remote = server()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        assert await world.read_file("a") == OLD
        await append(world, b"tail")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        theirs = b"?" * len(OLD) + b"tail"  # of the same size, and with the same end
        remote.other.write("/a", theirs)
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == remote.other.tree()
        assert tree["/a"] == theirs
        assert list(copies(tree).values()) == [OLD + b"tail"]

    run(tmp_path, story, remote)


# The proof


def test_the_proof_of_a_tail_is_no_checksum_and_survives_being_kept() -> None:
    proof = TailProof(12, 1_700_000_000, sha1(b"tail"))
    assert TailProof.parse(str(proof)) == proof
    assert is_tail_proof(str(proof))
    assert not is_tail_proof(sha1(b"tail"))
    assert not is_tail_proof(None)
    assert not is_tail_proof("TAIL-1-2-SHA1:short")


@pytest.mark.parametrize("replaced", [False, True], ids=["alone", "replaced"])
def test_a_file_that_gets_a_local_name_while_its_tail_is_in_doubt_is_kept_here_whole(
    tmp_path: Path, *, replaced: bool
) -> None:
    """As an editor makes a backup of a log. What the tail was put behind is not on the server any more."""
    remote = server()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])
    new = {"/a": b"new"} if replaced else {}

    async def story(world: World) -> None:
        await append(world, b"one")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        await world.rename("a", "a~")
        if replaced:
            await world.save("a", b"new")
        assert await world.drain() == []
        assert await world.tree() == {"/a~": OLD + b"one", **new}

    run(tmp_path, story, remote)
    assert remote.other.tree() == new


def test_a_folder_gets_a_local_name_while_the_tail_of_a_file_in_it_is_in_doubt(tmp_path: Path) -> None:
    remote = FakeRemote(account=Account(now_s, sticky=True))
    remote.other.mkdir("/f")
    remote.other.write("/f/a", OLD, mtime_s=1_600_000_000, checksum=sha1(OLD))
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await append(world, b"one", "f/a")
        while not remote.faults.happened:
            await trio.sleep(0.1)
        await world.rename("f", "f~")
        assert await world.drain() == []
        assert await world.tree() == {"/f~": None, "/f~/a": OLD + b"one"}

    run(tmp_path, story, remote)
    assert remote.other.tree() == {}
