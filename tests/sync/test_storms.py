"""What the server refuses for as long as it likes is asked for less and less, and can be taken back here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from cloudfs.errors import Locked, RemoteError, ServerFault, Unreachable
from cloudfs.types import RemotePath, RemoteVersion, Stored
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

TEN_MINUTES_S = 600.0
MOST = 8
"""The back-off is five minutes at most, and jitters."""


@dataclass
class Refusing(FakeRemote):
    """Removes and moves nothing, for a reason that may pass."""

    refuses: type[RemoteError] | None = Locked
    asked: int = 0

    def _refuse(self, path: RemotePath) -> None:
        self.asked += 1
        if self.refuses is not None:
            status = 423 if self.refuses is Locked else 504
            raise self.refuses("not now", subject=path, status=status)

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        await trio.sleep(0.02)
        self._refuse(path)
        await super().delete(path, expect=expect)

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        await trio.sleep(0.02)
        self._refuse(source)
        return await super().move(source, target, expect=expect)


def with_a_folder(remote: FakeRemote) -> None:
    for name in ("/x0", "/x1", "/x0/d"):
        remote.other.mkdir(name)
    remote.other.write("/x0/d/a", b"old")


async def remove_it(world: World) -> None:
    await world.walk()
    await world.unlink("x0/d/a")
    await world.rmdir("x0/d")


@pytest.mark.parametrize("error", [Locked, ServerFault])
def test_a_folder_that_cannot_be_removed_for_now(tmp_path: Path, error: type[RemoteError]) -> None:
    remote = Refusing(refuses=error)
    with_a_folder(remote)

    async def story(world: World) -> None:
        await remove_it(world)
        await trio.sleep(60)
        remote.log.clear()
        remote.asked = 0
        await trio.sleep(TEN_MINUTES_S)
        assert remote.asked <= MOST
        assert len(remote.log) <= 20 * MOST
        remote.refuses = None
        await world.drain()
        assert remote.other.tree() == {"/x0": None, "/x1": None}

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("name", ["x0/d", "x0/d/a"])
def test_what_cannot_be_moved_for_now(tmp_path: Path, name: str) -> None:
    remote = Refusing()
    with_a_folder(remote)

    async def story(world: World) -> None:
        await world.walk()
        await world.rename(name, "x1/moved")
        await trio.sleep(60)
        remote.asked = 0
        await trio.sleep(TEN_MINUTES_S)
        assert remote.asked <= MOST
        remote.refuses = None
        await world.drain()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


@dataclass
class Busy(FakeRemote):
    """Takes ten minutes to remove a folder, longer than anybody waits for an answer; 423 meanwhile."""

    since: float | None = None
    asked: int = 0
    began: trio.Event = field(default_factory=trio.Event)

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        await trio.sleep(0.05)
        self.asked += 1
        if self.since is None:
            self.since = trio.current_time()
            self.began.set()
            await trio.sleep(60)
            raise Unreachable("no answer", subject=path)
        if trio.current_time() - self.since < TEN_MINUTES_S:
            raise Locked("in use", subject=path, status=423)
        await super().delete(path, expect=expect)


def test_a_folder_that_the_server_is_just_removing(tmp_path: Path) -> None:
    remote = Busy()
    with_a_folder(remote)

    async def story(world: World) -> None:
        await remove_it(world)
        await remote.began.wait()
        remote.log.clear()
        await trio.sleep(TEN_MINUTES_S)
        assert remote.asked <= 2 * MOST
        assert len(remote.log) <= 10 * MOST
        await world.drain()
        assert remote.other.tree() == {"/x0": None, "/x1": None}

    tell(tmp_path, story, remote, poll_s=0)


def test_the_removal_of_a_folder_that_is_locked_is_taken_back(tmp_path: Path) -> None:
    remote = Refusing()
    with_a_folder(remote)

    async def story(world: World) -> None:
        await remove_it(world)
        await trio.sleep(20)
        assert (await world.engine.deletions.restore_removed()).left == 0
        remote.refuses = None
        await world.drain()
        await trio.sleep(60)
        assert await world.tree() == remote.other.tree()
        assert "/x0/d/a" in remote.other.tree()

    tell(tmp_path, story, remote)
