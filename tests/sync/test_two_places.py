"""One file at two places, shared by itself and inside of a folder, with one file id (protocol.md §3.3)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.types import ROOT, Ino, RemotePath
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

LARGE = bytes(range(256)) * 16 * 1024  # 4 MiB


def stocked() -> FakeRemote:
    remote = FakeRemote()
    for folder in ("/one", "/two", "/one/deep"):
        remote.other.mkdir(folder)
    remote.other.write("/one/file", LARGE)
    remote.other.write("/one/deep/inside", b"inside")
    return remote


async def ino_of(world: World, path: str) -> Ino:
    return (await world.lookup(path)).ino


async def look(world: World, *paths: str) -> None:
    """List folders anew, in this order; "" is the root."""
    for path in paths:
        await world.engine.lister.refresh(await ino_of(world, path) if path else ROOT)


ORDERS = [("one", "two"), ("two", "one"), ("two",)]


def stand_at(remote: FakeRemote, path: str, again: str) -> None:
    """Have the server show a file in a second place, too."""
    folder, _, name = again.rpartition("/")
    remote.account.get(RemotePath(folder or "/")).members[name] = remote.account.get(RemotePath(path))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_file_that_is_shared_twice_is_two_files_here(tmp_path: Path, order: tuple[str, ...]) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        before = await ino_of(world, "one/file")
        stand_at(remote, "/one/file", "/two/again")
        await look(world, *order)
        await look(world, "two")
        assert await ino_of(world, "one/file") == before
        again = await ino_of(world, "two/again")
        assert again != before
        for _ in range(2):
            await look(world, "one", "two")
        assert [await ino_of(world, path) for path in ("one/file", "two/again")] == [before, again]
        assert await world.read_file("two/again") == LARGE
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


def test_one_of_two_places_goes_and_the_other_stays(tmp_path: Path) -> None:
    remote = stocked()
    stand_at(remote, "/one/file", "/two/again")

    async def story(world: World) -> None:
        await world.walk()
        again = await ino_of(world, "two/again")
        remote.other.delete("/one/file")
        await look(world, "one", "two")
        assert await ino_of(world, "two/again") == again
        assert "one/file" not in (await world.walk()).attributes
        await trio.sleep(60)
        await look(world, "one", "two")
        assert await world.read_file("two/again") == LARGE
        assert await world.tree() == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_what_is_written_in_one_place_is_seen_in_the_other(tmp_path: Path) -> None:
    remote = stocked()
    stand_at(remote, "/one/file", "/two/again")

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"written here")
        await world.drain()
        assert remote.other.read("/two/again") == b"written here"
        await look(world, "two")
        assert await world.read_file("two/again") == b"written here"
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


def test_what_is_edited_in_both_places_is_kept_twice(tmp_path: Path) -> None:
    """The second one meets a version of the file that it has not seen: as with any other client's."""
    remote = stocked()
    stand_at(remote, "/one/file", "/two/again")

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"here")
        await world.save("two/again", b"and there")
        await world.drain()
        contents = set(remote.other.tree().values())
        assert {b"here", b"and there"} <= contents

    tell(tmp_path, story, remote)


def test_a_removal_in_one_place_touches_that_one(tmp_path: Path) -> None:
    remote = stocked()
    stand_at(remote, "/one/file", "/two/again")

    async def story(world: World) -> None:
        await world.walk()
        await world.unlink("two/again")
        await world.drain()
        assert remote.other.exists("/one/file")
        assert not remote.other.exists("/two/again")
        await look(world, "one", "two")
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


def test_a_file_that_vanishes_from_its_folder_and_stands_there_twice_is_taken_over_whole(
    tmp_path: Path,
) -> None:
    """It is renamed, and shared once more into the same folder: one of the names is the old node, the other is new."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        before = await ino_of(world, "one/file")
        remote.other.move("/one/file", "/one/first")
        stand_at(remote, "/one/first", "/one/second")
        await look(world, "one")
        assert await world.tree() == remote.other.tree()
        assert before in [await ino_of(world, path) for path in ("one/first", "one/second")]

    tell(tmp_path, story, remote)


def test_a_file_moved_here_to_its_own_second_place_is_not_lost(tmp_path: Path) -> None:
    """The server refuses, for something stands there: the same file, which nobody here had seen in that place."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        stand_at(remote, "/one/file", "/two/again")
        await world.rename("one/file", "two/again")
        await world.drain()
        await world.settle()
        tree = remote.other.tree()
        assert tree["/two/again"] == LARGE
        (copy,) = (path for path in tree if path.startswith("/two/again (conflicted copy"))
        assert tree[copy] == LARGE
        assert "/one/file" not in tree
        assert await world.tree() == tree

    tell(tmp_path, story, remote)
