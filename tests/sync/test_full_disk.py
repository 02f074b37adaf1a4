"""A full local disk while what others changed is taken in: an expected answer, not a surprise, and nothing ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cloudfs.errors import PosixError
from cloudfs.metadata.takeover import Takeover
from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.bulk import ONE_BY_ONE, QUIET_S, WITH_BULK, Watched, fill_older_folders, kinds
from tests.sync.mount import World, tell
from tests.sync.test_pushing import PUSHING

told_of_it = pytest.mark.expect_log("No space left on device: the state database")


@contextmanager
def full_disk() -> Iterator[list[int]]:
    """No listing but the root's can be noted within; yields the folders of which that was tried."""
    tried, real = list[int](), Takeover.refresh_folder

    def refresh_folder(self: Takeover, asked: Any, *args: Any, **more: Any) -> None:
        if asked.ino == ROOT:
            real(self, asked, *args, **more)
            return
        tried.append(asked.ino)
        raise PosixError(errno.ENOSPC, "the state database")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Takeover, "refresh_folder", refresh_folder)
        yield tried


@told_of_it
def test_a_look_before_a_bulk_upload(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await fill_older_folders(world)
        with full_disk() as tried:
            await trio.sleep(QUIET_S)
            assert tried
            world.check_log()  # in one sentence, no traceback
        await world.drain()
        assert len(await world.tree()) == len(world.remote.other.tree()) == 22

    remote = tell(tmp_path, story, Watched(features=ONE_BY_ONE), poll_s=0, quiet_s=QUIET_S)
    assert kinds(remote)["make_folder"] == 2


def test_a_look_whether_a_bulk_upload_arrived(tmp_path: Path) -> None:
    """All of it did: nothing is sent or looked for again."""

    async def story(world: World) -> None:
        await world.mkdir("n")
        for number in range(8):
            await world.save(f"n/{number}", b"ours")
        with full_disk() as tried:
            await world.drain()
            assert tried
        assert not [line for line in world.remote.methods() if line.startswith(("stat /n/", "put /"))]

    remote = tell(tmp_path, story, Watched(features=WITH_BULK), poll_s=0)
    assert kinds(remote) == {"make_folder": 1, "put": 0, "put_bulk": 1}


@told_of_it
@pytest.mark.parametrize("many", [False, True], ids=["one by one", "two at a time"])
def test_a_look_for_changes(tmp_path: Path, many: bool) -> None:
    remote, count = FakeRemote(features=ONE_BY_ONE), 20 if many else 3
    for number in range(count):
        remote.other.mkdir(f"/{number}")

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(60)
        with full_disk() as tried:
            for number in range(count):
                remote.other.write(f"/{number}/f", b"theirs")
            await trio.sleep(120)
            assert 0 < len(tried) < count * 4, "one that cannot be noted is enough of a look"
            assert not world.engine.watcher.covers()
        await trio.sleep(120)
        assert world.engine.watcher.covers()
        nodes = world.engine.store.nodes
        shown = [nodes.child(folder.ino, "f") for folder in nodes.children(ROOT)]
        assert len(shown) == count
        assert None not in shown

    tell(tmp_path, story, remote)


@told_of_it
def test_what_the_server_tells_of(tmp_path: Path) -> None:
    remote = FakeRemote(features=PUSHING)
    remote.other.mkdir("/a")

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(10)
        with full_disk() as tried:
            remote.other.write("/a/f", b"theirs")
            remote.tell("/a/f")
            await trio.sleep(5)
            assert tried
        remote.other.write("/a/g", b"theirs")
        remote.tell("/a/g")  # on the same connection
        await trio.sleep(5)
        assert (await world.tree()).keys() == {"/a", "/a/f", "/a/g"}

    tell(tmp_path, story, remote)


@told_of_it
def test_a_whole_tree_that_a_program_walks_through(tmp_path: Path) -> None:
    remote = FakeRemote()
    for folder in ("/a", "/a/b", "/a/b/c", "/a/d"):
        remote.other.mkdir(folder)

    async def story(world: World) -> None:
        with full_disk() as tried:
            with pytest.raises(PosixError, match="No space left"):
                await world.walk()
            await trio.sleep(10)
            assert tried
            assert any(line.startswith("list_tree") for line in remote.methods())
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)
