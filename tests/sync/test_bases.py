"""Small files that are edited and not cached: what they stand on is fetched before another client replaces it."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.content.source import Source
from cloudfs.errors import PosixError, Unreachable
from cloudfs.types import BLOCK_SIZE, RemotePath, RemoteVersion
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell

OLD = b"old content " * 90
SOON_S = 0.9
"""Before anything is sent: files are left alone for a second first."""


def server(content: bytes = OLD, *paths: str) -> FakeRemote:
    remote = FakeRemote()
    for path in paths or ("/a",):
        remote.other.write(path, content)
    return remote


async def overwrite(world: World, path: str, offset: int, *pieces: bytes) -> None:
    """Write one piece after the other without cutting the file, and close."""
    async with opened(world, path, os.O_WRONLY) as handle:
        for piece in pieces:
            await world.write(handle, offset, piece)
            offset += len(piece)


async def cut(world: World, path: str, size: int) -> None:
    ino = (await world.lookup(path)).ino
    await world.fs.setattr(ino, size=size)


def asked(remote: FakeRemote, method: str = "stream") -> int:
    return sum(request.method == method for request in remote.log)


Edit = Callable[[World], Awaitable[None]]
EDITS = pytest.mark.parametrize(
    ("edit", "edited"),
    [
        (lambda world: overwrite(world, "a", 5, b"new"), OLD[:5] + b"new" + OLD[8:]),
        (lambda world: overwrite(world, "a", len(OLD), b"more"), OLD + b"more"),
        (lambda world: cut(world, "a", 100), OLD[:100]),
        (lambda world: cut(world, "a", len(OLD) + 5), OLD + bytes(5)),
    ],
    ids=["written", "appended", "cut", "extended"],
)


@EDITS
def test_an_edit_of_what_another_client_replaces_becomes_a_whole_conflicted_copy(
    tmp_path: Path, edit: Edit, edited: bytes
) -> None:
    async def story(world: World) -> None:
        await edit(world)
        await trio.sleep(SOON_S)
        world.remote.other.write("/a", b"theirs")
        assert await world.read_file("a") == edited
        assert not await world.drain()
        tree = world.remote.other.tree()
        assert tree.pop("/a") == b"theirs"
        ((path, content),) = tree.items()
        assert "conflicted copy" in path
        assert content == edited

    tell(tmp_path, story, server())


@EDITS
def test_an_edit_of_what_another_client_replaces_keeps_all_its_bytes_under_a_local_name(
    tmp_path: Path, edit: Edit, edited: bytes
) -> None:
    async def story(world: World) -> None:
        await edit(world)
        await trio.sleep(SOON_S)
        world.remote.other.write("/a", b"theirs")
        await world.rename("a", "a~")
        assert not await world.drain()
        assert not world.engine.obstacles.all_blocked()
        assert await world.read_file("a~") == edited

    tell(tmp_path, story, server())


def test_an_open_file_that_another_client_replaces_is_read_on_in_full(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with opened(world, "a") as handle:
            await world.write(handle, 5, b"new")
            await trio.sleep(SOON_S)
            world.remote.other.write("/a", b"theirs")
            await world.refresh_all()
            assert await world.read(handle) == OLD[:5] + b"new" + OLD[8:]

    tell(tmp_path, story, server())


def test_it_is_one_request_which_the_upload_makes_no_more(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with opened(world, "a") as handle:
            for offset in (0, 100, 200):
                await world.write(handle, offset, b"new")
                await trio.sleep(SOON_S)
            assert asked(world.remote) == 1
        assert not await world.drain()
        assert asked(world.remote) == 1

    tell(tmp_path, story, server())


def test_opening_a_file_for_writing_fetches_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with opened(world, "a"):
            await trio.sleep(SOON_S)
        assert not asked(world.remote)

    tell(tmp_path, story, server())


@pytest.mark.parametrize(
    "edit",
    [
        lambda world: overwrite(world, "a", 0, b"n" * 500, b"e" * 500, b"w" * 80),
        lambda world: overwrite(world, "a", 0, b"new" * 500),
        lambda world: world.save("a", b"new"),
        lambda world: cut(world, "a", 0),
    ],
    ids=["written in pieces", "written at once", "saved", "emptied"],
)
def test_what_is_written_as_a_whole_fetches_nothing(tmp_path: Path, edit: Edit) -> None:
    async def story(world: World) -> None:
        await edit(world)
        assert not await world.drain()
        assert not asked(world.remote)

    tell(tmp_path, story, server())


def test_what_was_read_is_not_fetched_once_more(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await overwrite(world, "a", 5, b"new")
        await trio.sleep(SOON_S)
        assert asked(world.remote) == 1

    tell(tmp_path, story, server())


def test_a_file_of_more_than_a_block_is_not_fetched_for_its_tail(tmp_path: Path) -> None:
    large = bytes(BLOCK_SIZE + 1)

    async def story(world: World) -> None:
        await overwrite(world, "a", len(large), b"more")
        await trio.sleep(SOON_S)
        assert not asked(world.remote)

    tell(tmp_path, story, server(large))


def test_nothing_is_asked_of_a_server_that_is_known_to_be_away(tmp_path: Path) -> None:
    remote = server(OLD, "/a", "/b")

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.unreachable_for(60.0)
        with pytest.raises(Unreachable):
            await world.read_file("b")
        before = asked(remote)
        await overwrite(world, "a", 5, b"new")
        await trio.sleep(SOON_S)
        assert asked(remote) == before
        assert not await world.drain()
        assert remote.other.read("/a") == OLD[:5] + b"new" + OLD[8:]

    tell(tmp_path, story, remote)


def test_a_fetch_that_fails_is_told_by_the_upload_alone(tmp_path: Path) -> None:
    remote = server()

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.next("stream", [FaultKind.REFUSE] * 4)
        async with opened(world, "a") as handle:
            await world.write(handle, 5, b"new")
            await trio.sleep(SOON_S)
            assert asked(remote)
        assert not await world.drain()
        assert remote.other.read("/a") == OLD[:5] + b"new" + OLD[8:]

    tell(tmp_path, story, remote)


def test_another_client_that_replaces_the_file_a_tenth_of_a_second_later_finds_the_whole_edit(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await overwrite(world, "a", 5, b"new")
        await trio.sleep(0.1)
        world.remote.other.write("/a", b"theirs")
        assert not await world.drain()
        assert sorted(map(str, world.remote.other.tree().values())) == sorted(
            map(str, (b"theirs", OLD[:5] + b"new" + OLD[8:]))
        )

    tell(tmp_path, story, server(), poll_s=0)


async def lost_after(world: World, wait_s: float) -> None:
    """Have another client replace a file that is edited and held open, when what it stands on must be here."""
    async with opened(world, "a") as handle:
        await world.write(handle, 5, b"new")
        await trio.sleep(wait_s)
        assert not asked(world.remote, "put")
        world.remote.other.write("/a", b"theirs")
    assert not await world.drain()
    assert b"theirs" in world.remote.other.tree().values()
    assert OLD[:5] + b"new" + OLD[8:] in world.remote.other.tree().values()


def test_a_fetch_that_failed_is_made_again_before_another_client_replaces_the_file(tmp_path: Path) -> None:
    """A broken connection is followed by a good one long before the upload of a file that stays open."""
    remote = server()

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.next("stream", [FaultKind.REFUSE] * 4)
        await lost_after(world, 20)

    tell(tmp_path, story, remote, poll_s=5, quiet_s=10)


def test_what_is_edited_while_the_server_is_away_has_its_base_fetched_when_it_is_back(tmp_path: Path) -> None:
    remote = server(OLD, "/a", "/b")

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.unreachable_for(5.0)
        with pytest.raises(Unreachable):
            await world.read_file("b")
        await lost_after(world, 20)

    tell(tmp_path, story, remote, poll_s=5, quiet_s=10)


@pytest.mark.expect_log("another client replaced")
def test_a_new_base_does_not_wait_for_many_that_are_lost(tmp_path: Path) -> None:
    """A slow server: once behind, each base that was asked for came too late, and so it went on."""
    remote = many(FakeRemote(latency_s=1.5))

    async def story(world: World) -> None:
        await world.walk()
        for name in FILES[1:]:
            await overwrite(world, name, 5, b"new")
        for name in FILES[1:]:
            world.remote.other.write(f"/{name}", b"theirs")
        await overwrite(world, FILES[0], 5, b"new")
        await trio.sleep(15)
        assert not asked(world.remote, "put")
        world.remote.other.write(f"/{FILES[0]}", b"theirs")
        await world.drain()
        assert OLD[:5] + b"new" + OLD[8:] in world.remote.other.tree().values()

    tell(tmp_path, story, remote, poll_s=0, quiet_s=100)


class Counting(FakeRemote):
    """Knows how many downloads there were at one time."""

    now = most = 0

    @asynccontextmanager
    async def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            async with super().stream(path, start, stop, expect) as pieces:
                yield pieces
        finally:
            self.now -= 1


FILES = [f"{number}" for number in range(100)]


async def edit_all(world: World) -> None:
    await world.walk()
    for name in FILES:
        await overwrite(world, name, 5, b"new")
    await trio.sleep(SOON_S)


def many(remote: FakeRemote) -> FakeRemote:
    for name in FILES:
        remote.other.write(f"/{name}", OLD)
    return remote


def test_of_very_many_edited_files_two_are_fetched_at_once(tmp_path: Path) -> None:
    remote = Counting(latency_s=0.01)

    async def story(world: World) -> None:
        await edit_all(world)
        assert asked(remote) == len(FILES)
        assert remote.most == 2

    tell(tmp_path, story, many(remote))


def test_what_is_edited_beyond_what_may_wait_is_left_to_its_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudfs.content.bases._MOST_WAITING", 10)
    remote = many(FakeRemote())

    async def story(world: World) -> None:
        await edit_all(world)
        assert 10 <= asked(remote) <= 12
        assert not await world.drain()
        assert set(remote.other.tree().values()) == {OLD[:5] + b"new" + OLD[8:]}

    tell(tmp_path, story, remote)


def test_a_disk_without_room_is_left_alone_for_half_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    async def no_room(_source: Source) -> None:
        tried.append(trio.current_time())
        raise PosixError(errno.ENOSPC, "no room")

    async def story(world: World) -> None:
        monkeypatch.setattr(world.engine.fetcher, "prefetch_whole", no_room)
        await edit_all(world)
        first = len(tried)
        assert 1 <= first <= 2
        assert not await world.drain()
        await trio.sleep(30)
        world.remote.other.write("/0", OLD)
        await world.refresh_all()
        await overwrite(world, "0", 5, b"new")
        await trio.sleep(SOON_S)
        assert len(tried) == first + 1

    tell(tmp_path, story, many(FakeRemote()))


@pytest.mark.parametrize("what", ["touched", "removed", "removed and moved here"])
@pytest.mark.parametrize("size", [len(OLD), 3_000_000], ids=["small", "large"])
def test_what_was_touched_or_removed_there_is_found_again_by_its_checksum(
    tmp_path: Path, what: str, size: int
) -> None:
    """It has another ETag, or lies in the trash."""
    old = os.urandom(size)
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/a", old, checksum=f"SHA1:{hashlib.sha1(old, usedforsecurity=False).hexdigest()}")

    async def story(world: World) -> None:
        await world.walk()
        # Nothing is fetched before it happens.
        remote.faults.next("stream", [FaultKind.REFUSE] * 2)
        await overwrite(world, "d/a", 5, b"new")
        if what == "touched":
            remote.account.set_mtime(RemotePath("/d/a"), 1_600_000_000)
        else:
            remote.other.delete("/d/a")
        if what.endswith("here"):
            await world.rename("d/a", "b")
        await world.refresh_all()
        assert not await world.drain()
        await world.refresh_all()
        assert old[:5] + b"new" + old[8:] in remote.other.tree().values()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote, poll_s=0, quiet_s=100)
