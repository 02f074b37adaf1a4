"""Files go in bulk, which overwrites whatever is there, only while nobody else is seen to use their folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from cloudfs.remote.protocol import NewFile
from cloudfs.types import RemoteEntry, RemotePath, Stored
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell
from tests.sync.test_bulk import WITH_BULK, kinds

THEIRS = b"what another client has put there"


async def nothing() -> None:
    """Do nothing."""


@dataclass
class Watched(FakeRemote):
    """Does something once: while two bulk requests are on their way, or right after a folder was looked at."""

    between: Callable[[], Awaitable[None]] | None = None
    after_look: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    second: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    bulks: int = 0

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        self.bulks += 1
        if self.between is None:
            return await super().put_bulk(files)
        if self.bulks > 1:
            self.second.set()
            await self.over.wait()
            return await super().put_bulk(files)
        stored = await super().put_bulk(files)
        await self.second.wait()
        await self.between()
        self.over.set()
        return stored

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        seen = await super().list_folder(path)
        await self.after_look.pop(path, nothing)()
        return seen


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


async def fill_older_folders(world: World) -> None:
    """Make two folders, and a minute later, when they have to be looked at again, put files into both."""
    await world.mkdir("a")
    await world.mkdir("b")
    await world.drain()
    await trio.sleep(60)
    for number in range(10):
        await world.save(f"a/{number}", b"a")
        await world.save(f"b/{number}", b"b")
    await trio.sleep(0.5)  # half of the time that they are left alone: our own listings are over


def test_also_where_it_shows_the_name_of_a_file_that_is_about_to_go(tmp_path: Path) -> None:
    """The batch has begun, and looks into another folder, when the stranger comes and is listed."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        async def meet() -> None:
            remote.other.write("/a/5", THEIRS)
            await world.engine.lister.refresh((await world.lookup("a")).ino)

        await fill_older_folders(world)
        remote.after_look["/b"] = meet
        await is_kept(world, "/a/5", b"a")

    tell(tmp_path, story, remote, poll_s=0)
    assert kinds(remote)["put_bulk"] == 1


def test_an_older_look_does_not_make_up_for_it(tmp_path: Path) -> None:
    """The look was answered before the stranger came; its answer arrives after that of the listing."""
    remote = Watched(features=WITH_BULK)

    async def story(world: World) -> None:
        async def meet() -> None:
            remote.other.write("/a/5", THEIRS)
            await world.engine.lister.refresh((await world.lookup("a")).ino)

        await fill_older_folders(world)
        remote.after_look["/a"] = meet
        await is_kept(world, "/a/5", b"a")

    tell(tmp_path, story, remote, poll_s=0)
    assert kinds(remote)["put_bulk"] == 1


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
