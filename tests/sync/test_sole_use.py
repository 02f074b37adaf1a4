"""Files go in bulk, which overwrites whatever is there, only while nobody else is seen to use their folder."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.model.fake_remote import FaultKind
from tests.sync.bulk import ONE_BY_ONE, QUIET_S, WITH_BULK, Watched, fill_older_folders, kinds
from tests.sync.mount import World, tell

THEIRS = b"what another client has put there"


async def is_kept(world: World, path: str, ours: bytes) -> None:
    """Check that what stands at a path is the other client's, and that ours is beside it."""
    await world.drain()
    await world.refresh_all()
    tree = await world.tree()
    assert tree == world.remote.other.tree()
    assert tree[path] == THEIRS
    assert [content for name, content in tree.items() if "conflicted copy" in name] == [ours]


def test_a_listing_that_shows_something_of_others_ends_it(tmp_path: Path) -> None:
    """Of 120 files the first hundred are on their way; a listing made meanwhile shows a stranger at one of the rest."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        async def meet() -> None:
            remote.other.write("/new/119", THEIRS)
            await world.engine.lister.refresh((await world.lookup("new")).ino)

        remote.between = meet
        await world.mkdir("new")
        for number in range(120):
            await world.save(f"new/{number}", b"x" * number)
        await is_kept(world, "/new/119", b"x" * 119)

    tell(tmp_path, story, remote)
    assert kinds(remote) == {"make_folder": 1, "put_bulk": 2, "put": 21}  # a 21st for the copy


def test_also_where_it_shows_the_name_of_a_file_that_is_about_to_go(tmp_path: Path) -> None:
    """The batch has begun, and looks into another folder, when the stranger comes and is listed."""
    remote = Watched(features=ONE_BY_ONE)

    async def story(world: World) -> None:
        async def meet() -> None:
            remote.other.write("/a/5", THEIRS)
            folder = (await world.lookup("a")).ino
            await world.engine.lister.refresh(folder)  # it may be the look that is under way,
            await world.engine.lister.refresh(folder)  # but not any more

        await fill_older_folders(world)
        remote.after_look["/b"] = meet
        await is_kept(world, "/a/5", b"a")

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["put_bulk"] == 1


def test_an_older_look_does_not_make_up_for_it(tmp_path: Path) -> None:
    """The look was answered before the stranger came; its answer arrives after that of the listing."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        async def meet() -> None:
            remote.other.write("/a/5", THEIRS)
            await world.engine.lister.refresh((await world.lookup("a")).ino)

        await world.mkdir("c")
        await world.save("c/file", b"c")  # a tree shows that it is one
        await fill_older_folders(world)
        remote.after_look["/"] = meet
        await is_kept(world, "/a/5", b"a")

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["put_bulk"] == 1


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.CUT, FaultKind.FAULT, FaultKind.REFUSE])
def test_a_look_that_fails_loses_nothing_and_is_no_surprise(
    tmp_path: Path, kind: FaultKind, caplog: pytest.LogCaptureFixture
) -> None:
    """While the server is away nothing goes singly for that; into what it does not show everything does."""
    remote = Watched(features=ONE_BY_ONE)

    async def story(world: World) -> None:
        await fill_older_folders(world)
        remote.log.clear()
        remote.faults.next("list_folder", [kind, kind])
        await world.drain()
        assert len(remote.other.tree()) == 22

    tell(tmp_path, story, remote, poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["put"] == (20 if kind is FaultKind.FAULT else 0)
    assert [it for it in caplog.records if it.levelno >= logging.WARNING] == []


def test_listings_of_what_we_put_there_ourselves_change_nothing(tmp_path: Path) -> None:
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        async def look() -> None:
            await world.engine.lister.refresh((await world.lookup("new")).ino)

        remote.between = look
        await world.mkdir("new")
        for number in range(120):
            await world.save(f"new/{number}", b"x" * number)
        await world.drain()

    tell(tmp_path, story, remote)
    assert kinds(remote) == {"make_folder": 1, "put_bulk": 3, "put": 0}


def test_a_file_of_others_that_one_of_ours_has_met_ends_it(tmp_path: Path) -> None:
    """By then it is known, so that no look finds anything new."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        await world.mkdir("new")
        await world.drain()
        remote.other.write("/new/large", THEIRS)
        await world.save("new/large", bytes(200_000))
        await is_kept(world, "/new/large", bytes(200_000))
        for number in range(10):
            await world.save(f"new/{number}", b"x")
        await world.drain()
        assert len(remote.other.tree()) == 13

    tell(tmp_path, story, remote, poll_s=0)
    assert kinds(remote)["put_bulk"] == 0
