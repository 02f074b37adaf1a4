"""Folders that were made here and found on the server: what is in them is known here, with and without a network."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from cloudfs.errors import PosixError
from cloudfs.types import ContentVersion, Ino
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.model.faults import Span
from tests.sync.mount import World, tell


@pytest.mark.parametrize("how", ["reply lost", "made by another client too"])
def test_what_was_put_into_it_here_is_shown_without_a_network(tmp_path: Path, how: str) -> None:
    remote = FakeRemote()
    if how == "reply lost":
        remote.faults.next("make_folder", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.mkdir("new")
        if how != "reply lost":
            remote.other.mkdir("/new")
        await world.save("new/inside", b"content")
        await world.drain()
        remote.faults.during(Span.AWAY, math.inf)
        assert await world.tree() == {"/new": None, "/new/inside": b"content"}
        await world.save("new/more", b"without a network")
        remote.faults.end(Span.AWAY)
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


async def is_there(world: World, path: str) -> bool:
    with suppress(PosixError):
        await world.lookup(path)
        return True
    return False


def test_names_that_are_not_in_new_folders_cost_one_look_for_all_of_them(tmp_path: Path) -> None:
    """As `git` asks for hundreds. What another client has put there is found by that look."""

    async def story(world: World) -> None:
        await world.mkdir("new")
        for number in range(30):
            await world.mkdir(f"new/{number}")
        await world.drain()
        await trio.sleep(6)
        world.remote.other.write("/new/7/name", b"theirs")
        world.remote.log.clear()
        found = [number for number in range(30) if await is_there(world, f"new/{number}/name")]
        assert found == [7]
        assert len(world.remote.log) <= 4, world.remote.methods()

    tell(tmp_path, story, FakeRemote(latency_s=0.1))


def test_new_folders_cost_no_label_of_all_that_is_to_be_sent(tmp_path: Path) -> None:
    labels = 0

    async def story(world: World) -> None:
        staging = world.engine.filesystem._files._staging
        label = staging.label

        def counted(ino: Ino, version: ContentVersion, text: bytes) -> None:
            nonlocal labels
            labels += 1
            label(ino, version, text)

        staging.label = counted  # type: ignore[method-assign]
        for number in range(20):
            await world.mkdir(f"{number}")
            await world.save(f"{number}/file", b"content")
            await trio.sleep(0.6)
        assert labels == 20
        await world.rename("0", "moved")
        await trio.sleep(0.6)
        assert labels == 20 + 20, "what is below says where it is now"

    tell(tmp_path, story, quiet_s=60.0)


def test_what_is_put_into_a_folder_while_it_is_made_costs_no_request_for_its_time(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        remote = world.remote

        async def meanwhile() -> None:
            await world.save("new/file", b"content")

        remote.before["make_folder"] = meanwhile
        await world.mkdir("new")
        await world.drain()
        assert [line for line in remote.methods() if "mtime" in line] == []
        assert await world.tree() == remote.other.tree() == {"/new": None, "/new/file": b"content"}

    tell(tmp_path, story)
