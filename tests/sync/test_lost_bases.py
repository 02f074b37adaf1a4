"""Files whose other bytes are those of a version that the server has no more, or is about to lose."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cloudfs.content.layers import FileContent, Layer
from cloudfs.errors import CloudfsError
from cloudfs.sync.troubles import Trouble
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell

SAVE = "save the whole file once more"


def server() -> FakeRemote:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.write("/d/a", b"x" * 1000)
    return remote


LOGGED = pytest.mark.expect_log("cannot be read in full any more: another client replaced")


async def lose_base(world: World, renamed: str, shown: str) -> None:
    """Edit a file of which nothing else is here, have its base replaced, and take it off the server."""
    await world.walk()
    async with opened(world, "d/a", os.O_WRONLY) as handle:
        await world.write(handle, 1000, b" and more")
    world.remote.other.write("/d/a", b"theirs")
    await world.rename(renamed, "a~")
    await world.drain()
    with pytest.raises(CloudfsError, match=r"another version|not on the server"):
        await world.read_file(shown)


@pytest.mark.parametrize(("renamed", "shown"), [("d", "a~/a"), ("d/a", "a~")])
def test_a_file_of_a_local_name_gets_back_what_the_server_keeps_of_its_base(
    tmp_path: Path, renamed: str, shown: str
) -> None:
    old = b"x" * 1000
    remote = server()
    remote.other.write("/d/a", old, checksum=f"SHA1:{hashlib.sha1(old, usedforsecurity=False).hexdigest()}")

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "d/a", os.O_WRONLY) as handle:
            await world.write(handle, 1000, b" and more")
        world.remote.other.write("/d/a", b"theirs")
        await world.rename(renamed, "a~")
        assert not await world.drain()
        assert not told(world)
        assert await world.read_file(shown) == old + b" and more"

    tell(tmp_path, story, remote, poll_s=0)


def told(world: World) -> dict[str | None, Trouble]:
    return {world.path_of(trouble.ino): trouble for trouble in world.engine.obstacles.all_blocked()}


LOCAL = pytest.mark.parametrize(("renamed", "shown"), [("d", "a~/a"), ("d/a", "a~")])


@LOGGED
@LOCAL
def test_a_file_of_a_local_name_that_cannot_be_read_for_good_is_told_of(
    tmp_path: Path, renamed: str, shown: str
) -> None:
    """Nothing of it ever goes up, so no step would tell: also after a restart."""

    async def story(world: World) -> None:
        await lose_base(world, renamed, shown)
        for _ in range(2):
            (path,) = blocked = told(world)
            assert path == shown
            assert "another client replaced or removed" in blocked[path].reason
            assert blocked[path].next_step.startswith(SAVE)
            await world.restart()

    tell(tmp_path, story, server(), poll_s=0)


@LOGGED
@LOCAL
@pytest.mark.parametrize("how", ["save", "remove"])
def test_what_is_said_of_a_file_that_lost_its_base_mends_it(
    tmp_path: Path, renamed: str, shown: str, how: str
) -> None:
    async def story(world: World) -> None:
        await lose_base(world, renamed, shown)
        if how == "save":
            await world.save(shown, b"all of it")
            assert await world.read_file(shown) == b"all of it"
        else:
            await world.unlink(shown)
        assert not told(world)
        await world.restart()
        assert not told(world)

    tell(tmp_path, story, server(), poll_s=0)


def test_a_file_of_a_local_name_with_all_its_bytes_is_not_told_of(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        await world.rename("d", "d~")
        await world.drain()
        async with opened(world, "d~/a", os.O_WRONLY) as handle:
            await world.write(handle, 1000, b" and more")
        assert await world.read_file("d~/a") == b"x" * 1000 + b" and more"
        assert not told(world)

    tell(tmp_path, story, server(), poll_s=0)


@LOGGED
def test_a_folder_leaves_the_server_though_a_file_in_it_lost_its_base_and_was_never_there(
    tmp_path: Path,
) -> None:
    """There is nothing of it on the server that had to be kept before."""

    async def story(world: World) -> None:
        await lose_base(world, "d/a", "a~")
        await world.rename("a~", "d/mine~")
        await world.rename("d", "d~")
        assert not await world.drain()
        assert not world.remote.other.tree()
        assert await world.read_file("d~/a") == b"theirs"
        assert set(told(world)) == {"d~/mine~"}

    tell(tmp_path, story, server(), poll_s=0)


@pytest.mark.parametrize("written", [False, True], ids=["read", "written"])
def test_a_save_over_a_file_that_is_open_and_was_replaced_there_goes_up_at_once(
    tmp_path: Path, *, written: bool
) -> None:
    """It waited until the last program closed the old file: to keep that one's bytes was refused."""
    remote = FakeRemote()
    remote.other.write("/f", b"x" * 1000)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "f") as handle:
            if written:
                await world.write(handle, 1000, b" and more")
            remote.other.write("/f", b"theirs")
            await world.save("new", b"saved")
            await world.rename("new", "f")
            assert not await world.drain()
            assert remote.other.tree()["/f"] == b"theirs"
            assert sorted(map(str, remote.other.tree().values())) == ["b'saved'", "b'theirs'"]

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize("folder", ["d", "d/deep"])
@pytest.mark.parametrize("written", [False, True], ids=["read", "written"])
def test_what_was_removed_in_a_folder_is_read_on_when_that_gets_a_local_name(
    tmp_path: Path, folder: str, *, written: bool
) -> None:
    """The server's copy goes with the folder, before the file is closed."""
    remote = FakeRemote()
    for path in ("/d", "/d/deep"):
        remote.other.mkdir(path)
    remote.other.write(f"/{folder}/f", b"x" * 1000)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, f"{folder}/f") as handle:
            if written:
                await world.write(handle, 1000, b" and more")
            await world.unlink(f"{folder}/f")
            await world.rmdir("d/deep")
            await world.rename("d", "d~")
            assert not await world.drain()
            assert not remote.other.tree()
            assert await world.read(handle) == b"x" * 1000 + b" and more" * written
        assert await world.tree() == {"/d~": None}
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize("cached", [False, True])
def test_a_version_that_arrives_just_when_a_file_is_kept_here_is_the_one_that_is_kept(
    tmp_path: Path, cached: bool
) -> None:
    """Between taking hold of a content and beginning a layer on it lies a checkpoint, at which a listing may end."""

    async def story(world: World) -> None:
        await world.walk()
        folder = (await world.lookup("d")).ino
        if cached:
            await world.read_file("d/a")
        files = world.engine.files
        begin_layer = files.begin_layer

        async def overtaken(content: FileContent) -> Layer:
            files.begin_layer = begin_layer  # type: ignore[method-assign]  # once
            world.remote.other.write("/d/a", b"theirs")
            await world.engine.lister.refresh(folder)
            return await begin_layer(content)

        files.begin_layer = overtaken  # type: ignore[method-assign]
        await world.rename("d", "d~")
        await world.drain()
        assert world.remote.other.tree() == {}
        assert await world.read_file("d~/a") == b"theirs"
        assert not told(world)

    tell(tmp_path, story, server(), poll_s=0)
