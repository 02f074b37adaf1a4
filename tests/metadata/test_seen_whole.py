"""Which state of a folder was seen: what is not sure to have been seen is looked at again."""

from __future__ import annotations

import time
from pathlib import Path

import trio
from trio.testing import MockClock

from cloudfs.errors import NotFound
from cloudfs.types import ROOT, Ino
from tests.metadata.world import Metadata, file, folder, open_metadata


async def room_with_a_folder(room: Metadata, etag: str = "d1") -> Ino:
    """List the root and a folder d in it."""
    room.remote.set("/", folder("/d", etag), etag="r1")
    room.remote.set("/d", file("/d/x"), etag=etag)
    await room.lister.refresh(ROOT)
    d = room.shown()["d"].ino
    await room.lister.refresh(d)
    return d


async def test_a_listed_folder_is_seen_until_its_parent_shows_another_etag(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        assert room.nodes.stale_folders() == []
        assert room.nodes.is_seen_whole(d)
        room.remote.set("/", folder("/d", "d2"), etag="r2")
        await room.lister.refresh(ROOT)
        assert room.nodes.stale_folders() == [d]
        assert not room.nodes.is_seen_whole(d)


async def test_a_folder_below_one_that_was_not_seen_is_not_seen(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        room.nodes.update(ROOT, listed_etag=None)
        assert not room.nodes.is_seen_whole(d)


async def test_a_change_during_a_listing_is_not_taken_for_seen(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The folder's listing is on its way when it changes, and its parent's, asked for later, arrives before it."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        room.remote.latency_s = 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.lister.refresh, d)
            await trio.sleep(1)
            room.remote.latency_s = 0.1
            room.remote.set("/", folder("/d", "d2"), etag="r2")
            await room.lister.refresh(ROOT)
        assert room.nodes.stale_folders() == [d]
        room.remote.set("/d", file("/d/x"), file("/d/y"), etag="d2")
        await room.lister.refresh(d)
        assert room.nodes.stale_folders() == []


async def test_an_older_listing_of_the_parent_has_the_folder_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        room.remote.latency_s = 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.lister.refresh, ROOT)
            await trio.sleep(1)
            room.remote.latency_s = 0.1
            room.remote.set("/d", etag="d2")
            await room.lister.refresh(d)
            assert room.nodes.stale_folders() == []
        assert room.nodes.stale_folders() == [d], "which of the two is newer is not known"


async def test_what_a_step_of_ours_hides_is_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        with room.touches.step([(d, "x")]):
            await room.lister.refresh(d)
        assert room.nodes.stale_folders() == [d]
        await room.lister.refresh(d)
        assert room.nodes.stale_folders() == []


async def test_a_name_taken_here_has_its_folder_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What the server has under it appears once ours went elsewhere, though nothing changes on the server by that."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        ours = room.create("y", parent=d)
        room.remote.set("/d", file("/d/x"), file("/d/y"), etag="d2")
        await room.lister.refresh(d)
        assert room.nodes.stale_folders() == [d]
        room.nodes.update(ours, name="z")
        await room.lister.refresh(d)
        assert set(room.shown(d)) == {"x", "y", "z"}
        assert room.nodes.stale_folders() == []


async def test_a_node_that_changed_while_its_folder_was_listed_is_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each batch has a checkpoint behind it, in which a program goes on, before the next one or the one after it."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        many = [file(f"/d/{number:04}", "old") for number in range(750)]
        room.remote.set("/", folder("/d", "d1"))
        room.remote.set("/d", *many, etag="d1")
        await room.lister.refresh(ROOT)
        d = room.shown()["d"].ino
        await room.lister.refresh(d)
        last = room.shown(d)["0749"].ino
        room.remote.set("/d", *(file(f"/d/{number:04}", "new") for number in range(750)), etag="d2")

        async def write_in_between() -> None:
            while room.shown(d)["0000"].s_etag == "old":
                await trio.lowlevel.checkpoint()
            room.write(last)

        room.remote.latency_s = 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_in_between)
            await room.lister.refresh(d)
        assert room.node(last).s_etag == "old"
        assert room.nodes.stale_folders() == [d]


async def test_a_folder_made_here_is_looked_at_once_it_is_known_what_the_server_calls_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", etag="r1")
        await room.lister.refresh(ROOT)
        made = room.create("new", is_folder=True)
        room.nodes.update(made, listed_at=1.0)
        assert room.nodes.stale_folders() == []
        room.nodes.update(made, s_parent=ROOT, s_name="new", s_version=0, s_mtime_ns=0, s_etag="")
        assert room.nodes.stale_folders() == [made]


async def test_another_folder_in_the_place_of_one_begins_unseen(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        d = await room_with_a_folder(room)
        room.create("mine", parent=d)
        room.remote.set("/", etag="r2")
        room.remote.folders.pop("/d")
        await room.lister.refresh(ROOT)
        node = room.node(d)
        assert (node.synced, node.listed_etag) == (False, None)
        try:
            await room.lister.refresh(d)
        except NotFound:
            raise AssertionError("a folder that is to be made anew is not asked for") from None


async def test_a_listing_counts_from_when_it_was_asked_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What others wrote since may not be in it: in the second of a version of theirs it may hide another one."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        room.remote.set("/", file("/a", "old"))
        room.remote.latency_s = 100.0
        await room.lister.refresh(ROOT)
        listed_at = room.node(ROOT).listed_at
        assert listed_at is not None
        assert time.time() - listed_at >= 100.0
