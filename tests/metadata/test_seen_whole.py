"""Which state of a folder was seen: what is not sure to have been seen is looked at again."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import NotFound
from cloudfs.types import ROOT, Ino, RemoteEntry
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


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
@pytest.mark.parametrize("tree", [True, False], ids=["with a tree", "by itself"])
async def test_letters_that_change_while_a_listing_is_on_its_way_have_the_folder_looked_at_again(
    tmp_path: Path, autojump_clock: MockClock, *, tree: bool, known: bool
) -> None:
    """No ETag tells of them: what was asked for before has the older ones, for the folder and for what is in it."""
    del autojump_clock

    def told(letters: str) -> tuple[RemoteEntry, RemoteEntry]:
        entries = folder("/d", "d1"), file("/d/x")
        return tuple(msgspec.structs.replace(it, permissions=letters) for it in entries)  # type: ignore[return-value]

    async with open_metadata(tmp_path) as room:
        d, x = told("G")
        room.remote.set("/", d, etag="r1")
        room.remote.folders["/d"] = d, [x]
        await room.lister.refresh(ROOT)
        ino = room.shown()["d"].ino
        if known:
            await room.lister.refresh(ino)
            await trio.sleep(10)
        room.remote.latency_s = 5
        async with trio.open_nursery() as nursery:
            if tree:
                asked_at = trio.current_time()
                with room.touches.listing() as touched:
                    await trio.sleep(1)
                    room.remote.set("/", told("RGDNVCK")[0], etag="r1")
                    await room.lister.refresh(ROOT)
                    await room.lister.take_over(ino, d.path, (d, [x]), touched, asked_at)
            else:
                nursery.start_soon(room.lister.refresh, ino)
                await trio.sleep(1)
                room.remote.latency_s = 0.1
                room.remote.set("/", told("RGDNVCK")[0], etag="r1")
                await room.lister.refresh(ROOT)
        assert room.nodes.stale_folders() == [ino]
        room.remote.folders["/d"] = told("RGDNVCK")[0], [told("RGDNVCK")[1]]
        await room.lister.refresh(ino)
        assert room.nodes.stale_folders() == []
        assert {it.permissions for it in (room.node(ino), room.shown(ino)["x"])} == {"RGDNVCK"}


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


# What may be done in a share, which changes no ETag in it (protocol.md §3.1)


async def room_with_a_share(room: Metadata) -> tuple[Ino, Ino]:
    """List the root, the share ro in it, and sub in that; return the inodes of the two."""
    allow(room, "SG")
    await room.lister.refresh(ROOT)
    ro = room.shown()["ro"].ino
    await room.lister.refresh(ro)
    sub = room.shown(ro)["sub"].ino
    await room.lister.refresh(sub)
    return ro, sub


def allow(room: Metadata, letters: str, *, root_letters: str | None = None, etag: str = "r1") -> None:
    """Have the server say what may be done in the share."""

    def told(entry: RemoteEntry) -> RemoteEntry:
        return msgspec.structs.replace(entry, permissions=letters)

    top = msgspec.structs.replace(told(folder("/ro")), mount_root=True)
    inside = told(folder("/ro/sub"))
    listed = msgspec.structs.replace(top, permissions=root_letters or letters + "DNV")
    room.remote.set("/", listed, etag=etag)
    room.remote.folders["/ro"] = top, [told(file("/ro/file")), inside]
    room.remote.folders["/ro/sub"] = inside, [told(file("/ro/sub/file"))]


async def test_a_folder_that_allows_something_else_is_looked_into_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        ro, sub = await room_with_a_share(room)
        assert room.nodes.stale_folders() == []
        allow(room, "SRGDNVWCK", etag="r2")
        for stale in ([], [ro], [sub]):
            assert room.nodes.stale_folders() == stale
            await room.lister.refresh(stale[0] if stale else ROOT)
        assert room.nodes.stale_folders() == []
        assert "W" in (room.shown(sub)["file"].permissions or "")


async def test_a_share_that_allows_what_it_did_is_not_looked_into(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Though its root's letters flap by the way that it is asked for (protocol.md §2.2)."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        ro, _ = await room_with_a_share(room)
        for ino in (ROOT, ro, ROOT):
            await room.lister.refresh(ino)
            assert room.nodes.stale_folders() == []


async def test_a_listing_from_before_does_not_hide_what_is_allowed_since(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        ro, _ = await room_with_a_share(room)
        room.remote.latency_s = 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.lister.refresh, ro)
            await trio.sleep(1)
            allow(room, "SRGDNVWCK", etag="r2")
            room.remote.latency_s = 0.1
            await room.lister.refresh(ROOT)
        assert room.nodes.stale_folders() == [ro]


class Watching:
    """Says that everything is found out."""

    def __init__(self) -> None:
        self.uses = 0

    def covers(self) -> bool:
        return True

    def used(self) -> None:
        self.uses += 1

    def at_work(self) -> None:
        self.used()

    async def look(self) -> None:
        self.used()


async def test_what_a_share_allows_is_asked_for_again_when_it_is_used(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Whether files may be deleted does not show in the letters of the share's root."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        ro, _ = await room_with_a_share(room)
        room.lister.watch = Watching()
        allow(room, "SG", root_letters="SGDNV")
        allow(room, "SGD", root_letters="SGDNV", etag="r2")
        await trio.sleep(200)
        room.remote.asked.clear()
        await room.lister.ensure_listed(ro)
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(1)
        assert room.remote.asked == []
        await trio.sleep(200)
        await room.lister.ensure_listed(ro)
        await room.lister.ensure_listed(ROOT)
        await trio.sleep(1)
        assert room.remote.asked == ["/ro"]
        assert "D" in (room.shown(ro)["file"].permissions or "")
