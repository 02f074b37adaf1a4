"""Walks: which requests they cause, whom they make wait, and what is believed of a whole tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import (
    NotFound,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unavailable,
    Unreachable,
    Unsupported,
)
from cloudfs.types import ROOT, Ino, RemoteEntry
from tests.metadata.world import Metadata, file, folder, open_metadata


def fill(room: Metadata, *paths: str) -> None:
    """Have the server show files at these paths, in the folders that they need; a path that ends in / is a folder."""
    members: dict[str, dict[str, RemoteEntry]] = {"/": {}}
    for path in paths:
        names = path.strip("/").split("/")
        for depth in range(1, len(names) + 1):
            here, above = "/" + "/".join(names[:depth]), "/" + "/".join(names[: depth - 1])
            if depth < len(names) or path.endswith("/"):
                members[above].setdefault(here, folder(here, file_id=f"id{here}"))
                members.setdefault(here, {})
            else:
                members[above][here] = file(here, file_id=f"id{here}")
    for here, found in members.items():
        room.remote.set(here, *found.values(), file_id=None if here == "/" else f"id{here}")


@asynccontextmanager
async def walked(path: Path, *paths: str) -> AsyncIterator[Metadata]:
    """Give a room with these files on the server, of which the account's root was seen."""
    async with open_metadata(path) as room:
        fill(room, *paths)
        await room.lister.refresh(ROOT)
        room.remote.asked.clear()
        yield room


async def read(room: Metadata, path: str) -> Ino:
    """Read one folder, as `ls` does after its path was looked up."""
    ino = ROOT
    for name in filter(None, path.split("/")):
        ino = (await room.tree.lookup(ino, name.encode())).ino
    await room.lister.ensure_listed(ino, reading=True)
    return ino


async def walk(room: Metadata, path: str = "/") -> list[str]:
    """Read a folder and everything below it, as `find` does."""
    ino = await read(room, path)
    found = []
    for name, node in sorted(room.shown(ino).items()):
        here = f"{path.rstrip('/')}/{name}"
        found += [here, *(await walk(room, here) if node.folder else ())]
    return found


BENCH = [f"bench/d{number:02}/f{n}" for number in range(50) for n in range(3)]


async def test_a_walk_over_many_folders_is_two_requests(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        begun_s = trio.current_time()
        found = await walk(room, "/bench")
        assert len(found) == 200
        assert room.remote.asked == ["/bench", "tree /bench"]
        assert trio.current_time() - begun_s < 0.5


async def test_a_walk_over_the_whole_account_asks_for_its_top_folders(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        assert len(await walk(room)) == 201
        assert room.remote.asked == ["tree /bench"]


async def test_a_walk_over_many_top_folders_asks_for_the_root(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, *(path.removeprefix("bench/") for path in BENCH)) as room:
        assert len(await walk(room)) == 200
        assert room.remote.asked == ["tree /d00", "tree /"]


async def test_one_folder_is_listed_by_itself(tmp_path: Path, autojump_clock: MockClock) -> None:
    """However deep it is, and whatever was read a while ago."""
    del autojump_clock
    async with walked(tmp_path, "a/b/c/d/f", "a/b/c/e/f", "a/b/g/f") as room:
        await read(room, "/a/b/c")
        assert room.remote.asked == ["/a", "/a/b", "/a/b/c"]
        for path in ("/a/b/c/d", "/a/b/c/e", "/a/b/g"):
            await trio.sleep(2)
            await read(room, path)
        assert not any(asked.startswith("tree") for asked in room.remote.asked)


async def test_looking_up_paths_is_no_walk(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        bench = (await room.tree.lookup(ROOT, b"bench")).ino
        for number in range(50):
            inside = (await room.tree.lookup(bench, f"d{number:02}".encode())).ino
            await room.tree.lookup(inside, b"f1")
        assert not any(asked.startswith("tree") for asked in room.remote.asked)


async def test_a_program_that_reads_folders_one_beside_the_other_walks(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        for number in range(50):
            await read(room, f"/bench/d{number:02}")
        assert room.remote.asked == ["/bench", "/bench/d00", "tree /bench"]


async def test_a_walk_is_one_however_slow_the_server_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A slow listing is not the program's pause: where each takes seconds, a whole tree is worth most."""
    del autojump_clock
    async with walked(tmp_path, *(path.removeprefix("bench/") for path in BENCH)) as room:
        room.remote.latency_s = room.remote.tree_s = 5
        assert len(await walk(room)) == 200
        # The root is looked at again by itself meanwhile.
        assert [asked for asked in room.remote.asked if asked != "/"] == [
            "tree /d00",
            "/d00",
            "tree /",
            "/d01",
        ]


async def test_programs_that_read_many_folders_at_once_walk(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        await read(room, "/bench")
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(read, room, f"/bench/d{number:02}")
        assert room.remote.asked == ["/bench", "tree /bench"]


async def test_a_slow_tree_delays_one_reader_for_a_moment(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        room.remote.tree_s = 25
        await read(room, "/bench")
        begun_s = trio.current_time()
        await read(room, "/bench/d00")
        assert trio.current_time() - begun_s == pytest.approx(1.6, abs=0.05)
        for number in range(1, 50):
            await read(room, f"/bench/d{number:02}")
        assert trio.current_time() - begun_s == pytest.approx(1.6 + 4.9, abs=0.2), (
            "the others do not wait for it"
        )
        await trio.sleep(30)
        assert len(await walk(room, "/bench")) == 200


async def test_an_answer_that_has_begun_to_come_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """What is left then is our own work: on a busy machine it takes longer than the folders by themselves would."""
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        room.remote.tree_s, room.remote.tree_comes_s = 1.4, 1.0
        assert len(await walk(room, "/bench")) == 200
        assert room.remote.asked == ["/bench", "tree /bench"]


async def test_an_answer_that_comes_late_does_not_undo_what_was_listed_since(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/old", "a/c/f") as room:
        room.remote.tree_s = 10
        await read(room, "/a")
        reading = trio.current_time()
        b = await read(room, "/a/b")
        await trio.sleep(6)
        room.remote.set("/a/b", file("/a/b/new", file_id="new"), file_id="id/a/b")
        await room.lister.refresh(b)
        await trio.sleep(10)
        assert trio.current_time() > reading + 11
        assert set(room.shown(b)) == {"new"}


async def test_an_own_step_is_newer_than_the_tree(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What we changed on the server since the request is left out, in whatever folder it lies."""
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/f") as room:
        a = await read(room, "/a")
        b = room.shown(a)["b"].ino

        def upload() -> None:
            """The tree has not seen the upload of b/g, nor the removal of b/f."""
            with room.touches.step([(b, "g"), (b, "f")]):
                pass

        room.remote.gate = upload
        await read(room, "/a/b")
        assert set(room.shown(b)) == set()
        c = await read(room, "/a/c")
        assert set(room.shown(c)) == {"f"}
        assert room.remote.asked == ["/a", "tree /a"]


async def test_a_folder_that_moved_meanwhile_takes_nothing_from_the_tree(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/g") as room:
        a = await read(room, "/a")
        b = room.shown(a)["b"].ino

        def move() -> None:
            with room.touches.step([(a, "b"), (a, "z")]):
                room.nodes.update(b, name="z", s_name="z")
            room.remote.gate = None

        room.remote.gate = move
        room.remote.set("/a/z", file("/a/z/f"), file("/a/z/h"), file_id="id/a/b")
        await room.lister.ensure_listed(b, reading=True)
        assert set(room.shown(b)) == {"f", "h"}, "it was listed by itself, where it is now"
        assert room.remote.asked == ["/a", "tree /a", "/a/z"]


async def test_a_folder_that_is_another_one_meanwhile_takes_nothing_from_the_tree(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/g") as room:
        a = await read(room, "/a")
        b = room.shown(a)["b"].ino
        room.nodes.update(b, s_file_id="another")
        room.remote.folders["/a"] = folder("/a", file_id="id/a"), [folder("/a/c", file_id="id/a/c")]
        with pytest.raises(NotFound):
            room.remote.folders.pop("/a/b")
            await room.lister.ensure_listed(b, reading=True)


async def test_only_what_is_not_fresh_is_merged(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/f", "a/d/f") as room:
        a = await read(room, "/a")
        b = room.shown(a)["b"].ino
        await trio.sleep(2)
        await room.lister.refresh(b)
        room.remote.set("/a/b", file("/a/b/other"), file_id="id/a/b")
        await read(room, "/a")
        await read(room, "/a/c")
        assert room.remote.asked[-1] == "tree /a"
        assert set(room.shown(b)) == {"f"}


async def test_old_folders_are_renewed_by_a_tree(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/f") as room:
        a = await read(room, "/a")
        b = room.shown(a)["b"].ino
        await room.lister.refresh(b)
        await trio.sleep(60)
        room.remote.set("/a/b", file("/a/b/other"), file_id="id/a/b")
        await read(room, "/a")
        await read(room, "/a/c")
        await trio.sleep(1)
        assert "tree /a" in room.remote.asked
        assert room.remote.asked.count("/a/b") == 1
        assert set(room.shown(b)) == {"other"}


async def test_what_the_tree_leaves_out_is_listed_by_itself(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """At once: nobody waits for what is known not to come."""
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        room.remote.leaves_out = {"/bench/d00", "/bench/d07"}
        begun_s = trio.current_time()
        assert len(await walk(room, "/bench")) == 200
        assert room.remote.asked == ["/bench", "tree /bench", "/bench/d00", "tree /bench/d07", "/bench/d07"]
        assert trio.current_time() - begun_s == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("error", "for_s"),
    [
        (ServerFault("no memory", status=500), 3600),
        (ServerFault("bad gateway", status=502), 3600),
        (ProtocolViolation("it was cut"), 3600),
        (Unsupported("not here", status=403), 3600),
        (Unsupported("one level only"), 3600),
        (Unavailable("maintenance", status=503), 60),
        (Unreachable("reset"), 60),
    ],
    ids=str,
)
async def test_after_a_failure_folders_are_listed_one_by_one_for_a_while(
    tmp_path: Path, autojump_clock: MockClock, error: RemoteError, for_s: float
) -> None:
    del autojump_clock
    paths = [f"{top}/d{n}/d/f" for top in "ab" for n in range(3)]
    async with walked(tmp_path, *paths) as room:
        room.remote.tree_error = error
        await read(room, "/a")
        assert set(room.shown(await read(room, "/a/d0"))) == {"d"}
        await read(room, "/a/d1")
        asked = room.remote.asked
        assert asked == ["/a", "tree /a", "/a/d0", "tree /a/d1", "/a/d1"]
        asked.clear()
        await trio.sleep(for_s - 5)
        await read(room, "/a")
        await read(room, "/a/d2")
        assert [it for it in asked if it.startswith("tree")] == ["tree /a/d2"]
        room.remote.tree_error = None
        await read(room, "/b")
        assert len(await walk(room, "/b")) == 9, "elsewhere trees are asked for all the same"
        assert asked[-1] == "tree /b"


async def test_a_tree_that_takes_too_long_is_not_asked_for_again_soon(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, "a/b/f", "a/c/f", "a/d/f") as room:
        room.remote.tree_s, room.remote.tree_error = 30, Unreachable("no whole tree within 30 seconds")
        await read(room, "/a")
        await read(room, "/a/b")
        await trio.sleep(1000)
        await read(room, "/a")
        await read(room, "/a/c")
        assert [it for it in room.remote.asked if it.startswith("tree")] == ["tree /a", "tree /a/c"]


@pytest.mark.parametrize("status", [400, 412])
async def test_a_server_that_refuses_trees_is_not_asked_for_any(
    tmp_path: Path, autojump_clock: MockClock, status: int
) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        room.remote.tree_error = Unsupported("refused", status=status)
        assert len(await walk(room, "/bench")) == 200
        assert [it for it in room.remote.asked if it.startswith("tree")] == ["tree /bench"]


async def test_too_many_nodes_are_left_to_the_folders_below(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    del autojump_clock
    monkeypatch.setattr("cloudfs.metadata.trees._MOST_NODES", 60)
    paths = [f"a/{x}/{y}/f{n}" for x in "pq" for y in "rs" for n in range(15)]
    async with walked(tmp_path, *paths) as room:
        assert len(await walk(room, "/a")) == 66
        assert room.remote.asked == ["/a", "tree /a", "/a/p", "tree /a/p", "/a/q", "tree /a/q"] or (
            room.remote.asked == ["/a", "tree /a", "/a/p", "tree /a/p", "tree /a/q"]
        )


async def test_where_another_storage_is_mounted_no_tree_is_asked_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The server would look through all of it; the folders beside it come with trees of their own."""
    del autojump_clock
    async with open_metadata(tmp_path) as room:
        fill(room, *BENCH, "ext/a/f", "ext/b/f")
        own, members = room.remote.folders["/"]
        external = RemoteEntry(
            members[1].path, members[1].kind, members[1].version, "id/ext", "RGDNVMCK", mount_root=True
        )
        assert external.name == "ext"
        room.remote.folders["/"] = own, [members[0], external]
        await room.lister.refresh(ROOT)
        room.remote.asked.clear()
        assert len(await walk(room)) == 206
        assert room.remote.asked == ["tree /bench", "/ext", "tree /ext/a", "/ext/b"] or (
            room.remote.asked[:2] == ["tree /bench", "/ext"] and "tree /" not in room.remote.asked
        )


async def test_what_is_known_is_not_asked_for_again_because_of_what_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    del autojump_clock
    async with walked(tmp_path, *(f"big/d/f{n}" for n in range(2100)), "new/d/f", "other/d/f") as room:
        await walk(room, "/big")
        room.remote.asked.clear()
        await walk(room)
        assert room.remote.asked == ["tree /new", "tree /other"]


async def test_a_plain_server_is_never_asked_for_a_tree(tmp_path: Path, autojump_clock: MockClock) -> None:
    del autojump_clock
    async with walked(tmp_path, *BENCH) as room:
        room.remote.features = type(room.remote.features)("WebDAV")
        assert len(await walk(room, "/bench")) == 200
        assert not any(asked.startswith("tree") for asked in room.remote.asked)


async def test_others_get_their_turn_while_a_tree_is_merged(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Between two folders, and within a large one."""
    del autojump_clock
    async with walked(tmp_path, *(f"a/d{n}/f{m}" for n in range(20) for m in range(300))) as room:
        await read(room, "/a")
        turns = 0

        async def others() -> None:
            nonlocal turns
            while room.store.nodes.count_synced(6021) < 6021:
                await trio.lowlevel.checkpoint()
                turns += 1

        room.remote.tree_s = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await room.trees.bring(room.shown(room.shown()["a"].ino)["d0"].ino, reading=True)
        assert turns > 20 * 2
