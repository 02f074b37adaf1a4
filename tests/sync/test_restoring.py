"""What vanished there in bulk is sent back, but for what is not here in full: that waits on for its own answer."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cloudfs.sync.deletions import Outcome
from cloudfs.types import ROOT
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, tell

HERE = {"/d/0", "/d/1"}
AWAY = {"/d/2", "/d/3", "/d/4", "/d/5"}
"""Few beside what else there is: alone, they would be believed to be gone."""


def stocked() -> FakeRemote:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    for path in sorted(HERE | AWAY):
        remote.other.write(path, path.encode())
    for number in range(6):
        remote.other.write(f"/{number}", b"x")
    return remote


async def restore_later(world: World) -> None:
    """Have the folder vanish, and what is here of it sent back after an hour, when nothing counts with it any more."""
    await world.walk()
    for path in sorted(HERE):
        await world.read_file(path[1:])
    world.remote.other.delete("/d")
    await world.engine.lister.refresh(ROOT)
    await trio.sleep(3600)
    assert await world.engine.deletions.restore_vanished() == Outcome(3, left=4)
    waiting(world, 4)


def waiting(world: World, count: int) -> None:
    held = world.engine.deletions.vanished()
    assert (held.count if held is not None else 0) == count


async def shown(world: World) -> set[str]:
    return {f"/{path}" for path in (await world.walk()).attributes if path.startswith("d/")}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_cannot_be_sent_back_waits_on_and_goes_with_its_own_answer(
    tmp_path: Path, *, restarted: bool
) -> None:
    async def story(world: World) -> None:
        await restore_later(world)
        if restarted:
            await world.restart()
        assert not await world.drain()
        await world.refresh_all()
        assert await shown(world) == HERE | AWAY
        waiting(world, 4)
        assert await world.engine.deletions.restore_vanished() == Outcome(0, left=4)
        await world.engine.deletions.accept_vanished()
        assert await shown(world) == HERE
        waiting(world, 0)
        assert {path for path in world.remote.other.tree() if path.startswith("/d/")} == HERE

    tell(tmp_path, story, stocked(), held_from=3)


def test_an_answer_about_the_rest_before_its_folder_is_there_again_is_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await restore_later(world)
        assert await world.engine.deletions.accept_vanished() == Outcome(0, left=4)
        assert not await world.drain()
        await trio.sleep(200)
        assert await shown(world) == HERE
        waiting(world, 0)

    tell(tmp_path, story, stocked(), held_from=3)


def test_the_rest_is_no_longer_asked_about_once_the_server_shows_it_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await restore_later(world)
        assert not await world.drain()
        for path in sorted(AWAY):
            world.remote.other.write(path, b"again")
        await world.refresh_all()
        waiting(world, 0)
        assert await world.read_file("d/5") == b"again"
        assert await shown(world) == HERE | AWAY

    tell(tmp_path, story, stocked(), held_from=3)
