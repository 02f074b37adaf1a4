"""A folder that was moved or removed here, and in whose place another client puts another folder of that name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

LISTED = pytest.mark.parametrize("listed", [True, False], ids=["listed first", "met by the step"])


def stocked() -> FakeRemote:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.mkdir("/d/deep")
    remote.other.write("/d/a", b"a")
    remote.other.write("/d/deep/b", b"b")
    return remote


def replace(remote: FakeRemote, *, moved: bool = False) -> None:
    if moved:
        remote.other.move("/d", "/moved")
    else:
        remote.other.delete("/d")
    remote.other.mkdir("/d")
    remote.other.write("/d/theirs", b"theirs")


async def come_together(world: World, *, listed: bool) -> None:
    if listed:
        await world.engine.lister.refresh(ROOT)
    assert not await world.drain()
    await world.settle()
    await world.refresh_all()
    assert await world.tree() == world.remote.other.tree()


@LISTED
def test_another_folder_is_not_moved_in_place_of_the_one_that_was(tmp_path: Path, *, listed: bool) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.rename("d", "e")
        replace(remote)
        await come_together(world, listed=listed)
        assert remote.other.tree() == {"/d": None, "/d/theirs": b"theirs"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


@LISTED
def test_what_was_edited_in_the_moved_folder_is_in_that_one(tmp_path: Path, *, listed: bool) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.rename("d", "e")
        await world.save("e/a", b"mine")
        replace(remote)
        await come_together(world, listed=listed)
        ours = {"/e": None, "/e/a": b"mine"}
        assert remote.other.tree() == {"/d": None, "/d/theirs": b"theirs", **ours}

    tell(tmp_path, story, remote, poll_s=0)


@LISTED
def test_where_the_folder_was_moved_on_both_sides_the_servers_name_counts(
    tmp_path: Path, *, listed: bool
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.rename("d", "e")
        replace(remote, moved=True)
        there = remote.other.tree()
        await come_together(world, listed=listed)
        assert remote.other.tree() == there

    tell(tmp_path, story, remote, poll_s=0)


@LISTED
@pytest.mark.parametrize("where", ["d", "d/deep"])
def test_another_folder_is_not_removed_in_place_of_the_one_that_was(
    tmp_path: Path, where: str, *, listed: bool
) -> None:
    """Not even an empty one: nobody here has seen it."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        for path in ("d/a", "d/deep/b"):
            await world.unlink(path)
        for path in ("d/deep", "d"):
            await world.rmdir(path)
        remote.other.delete(f"/{where}")
        remote.other.mkdir(f"/{where}")
        await come_together(world, listed=listed)
        assert set(remote.other.tree()) == {"/d", f"/{where}"}

    tell(tmp_path, story, remote, poll_s=0)
