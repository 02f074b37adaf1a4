"""What another client renames or moves keeps its inode, its cached blocks and its open handles here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.types import ROOT, Ino, RemotePath
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell

LARGE = bytes(range(256)) * 16 * 1024  # 4 MiB
_NOT_READ_AHEAD = 40 * 1024 * 1024


def stocked() -> FakeRemote:
    remote = FakeRemote()
    for folder in ("/one", "/two", "/one/deep"):
        remote.other.mkdir(folder)
    remote.other.write("/one/file", LARGE)
    remote.other.write("/one/deep/inside", b"inside")
    return remote


def gets(remote: FakeRemote) -> list[str]:
    return [line for line in remote.methods() if line.startswith(("stream", "get_range"))]


async def ino_of(world: World, path: str) -> Ino:
    return (await world.lookup(path)).ino


async def look(world: World, *paths: str) -> None:
    """List folders anew, in this order; "" is the root."""
    for path in paths:
        await world.engine.lister.refresh(await ino_of(world, path) if path else ROOT)


ORDERS = [("one", "two"), ("two", "one"), ("two",)]


def test_a_file_renamed_there_keeps_inode_and_blocks(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        assert await world.read_file("one/file") == LARGE
        before, read = await ino_of(world, "one/file"), len(gets(remote))
        remote.other.move("/one/file", "/one/renamed")
        await look(world, "one")
        assert await ino_of(world, "one/renamed") == before
        assert await world.read_file("one/renamed") == LARGE
        assert len(gets(remote)) == read, "it was fetched again"
        assert "one/file" not in (await world.walk()).attributes

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_file_moved_to_another_folder_there_keeps_inode_and_blocks(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        assert await world.read_file("one/file") == LARGE
        before, read = await ino_of(world, "one/file"), len(gets(remote))
        remote.other.move("/one/file", "/two/moved")
        await look(world, *order)
        assert await ino_of(world, "two/moved") == before
        assert await world.read_file("two/moved") == LARGE
        assert len(gets(remote)) == read, "it was fetched again"
        assert await world.tree() == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_an_open_handle_reads_on_in_the_new_place(tmp_path: Path, order: tuple[str, ...]) -> None:
    remote = stocked()
    content = os.urandom(_NOT_READ_AHEAD)
    remote.other.write("/one/file", content)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "one/file", os.O_RDONLY) as handle:
            assert await world.fs.read(handle, 0, 1000) == content[:1000]
            before = await ino_of(world, "one/file")
            remote.other.move("/one/file", "/two/moved")
            await look(world, *order)
            assert await world.fs.read(handle, _NOT_READ_AHEAD - 1000, 1000) == content[-1000:]
            assert await ino_of(world, "two/moved") == before
        assert await world.read_file("two/moved") == content

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_folder_moved_there_keeps_its_inode_and_what_is_in_it(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        assert await world.read_file("one/deep/inside") == b"inside"
        await world.walk()
        before = [await ino_of(world, path) for path in ("one/deep", "one/deep/inside")]
        read = len(gets(remote))
        remote.other.move("/one/deep", "/two/moved")
        await look(world, *order)
        assert [await ino_of(world, path) for path in ("two/moved", "two/moved/inside")] == before
        assert await world.read_file("two/moved/inside") == b"inside"
        assert len(gets(remote)) == read, "it was fetched again"
        assert await world.tree() == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_folder_moved_there_is_listed_without_the_server_as_it_was(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    """All that was known in it is known on, be it much; and nothing is asked for a second time."""
    remote = stocked()
    remote.other.mkdir("/one/deep/deeper")
    for number in range(120):
        remote.other.write(f"/one/deep/deeper/{number}", b"content")

    async def story(world: World) -> None:
        await world.walk()
        before = [await ino_of(world, path) for path in ("one/deep", "one/deep/deeper", "one/deep/deeper/7")]
        remote.other.move("/one/deep", "/two/moved")
        await look(world, *order)
        nodes = world.engine.store.nodes
        top, deeper, seventh = map(nodes.get, before)
        assert top is not None
        assert deeper is not None
        assert seventh is not None
        assert nodes.local_path(seventh.ino) == "/two/moved/deeper/7"
        assert (top.listed_at is None, deeper.listed_at is None) == (False, False)
        assert len(nodes.children(deeper.ino)) == 120
        assert not [line for line in remote.methods() if line.startswith("list_folder /two/moved")]
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote, poll_s=0)


def test_a_folder_removed_there_is_looked_for_once(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        remote.other.delete("/one")
        remote.log.clear()
        await look(world, "")
        assert [line for line in remote.methods() if line.startswith("find")] == ["find /"]
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_a_file_moved_and_written_there_has_the_new_content(tmp_path: Path, order: tuple[str, ...]) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.read_file("one/file")
        async with opened(world, "one/file", os.O_RDONLY) as handle:
            remote.other.move("/one/file", "/two/moved")
            remote.other.write("/two/moved", b"written there", mtime_s=1_650_000_000)
            await look(world, *order)
            assert await world.read_file("two/moved") == b"written there"
            assert await world.read(handle) == LARGE, "it stays with the version that it was opened on"
        assert await world.tree() == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@asynccontextmanager
async def being_listed(world: World, remote: FakeRemote, path: str) -> AsyncIterator[None]:
    """Have a folder being listed within the block: the server answers at its end, as things are by then."""
    asked, may_answer = trio.Event(), trio.Event()

    async def answer() -> None:
        asked.set()
        await may_answer.wait()

    remote.before["list_folder"] = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, world, path)
        await asked.wait()
        yield
        may_answer.set()


@pytest.mark.parametrize("seed", range(4))
def test_two_files_that_change_folders_keep_their_inodes(tmp_path: Path, seed: int) -> None:
    """Each folder's listing wants the other one's first."""
    remote = stocked()
    remote.other.write("/two/other", b"other")

    async def story(world: World) -> None:
        await world.walk()
        assert await world.read_file("one/file") == LARGE
        before, read = [await ino_of(world, path) for path in ("one/file", "two/other")], len(gets(remote))
        remote.other.move("/one/file", "/two/file")
        remote.other.move("/two/other", "/one/other")
        async with trio.open_nursery() as nursery:
            for path in ("one", "two"):
                nursery.start_soon(look, world, path)
        with trio.fail_after(60):
            await world.refresh_all()
        assert [await ino_of(world, path) for path in ("two/file", "one/other")] == before
        assert await world.read_file("two/file") == LARGE
        assert len(gets(remote)) == read, "it was fetched again"
        assert await world.tree() == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote, seed=seed, poll_s=0)


@pytest.mark.parametrize("edited", [False, True], ids=["clean", "edited"])
@pytest.mark.parametrize("first", ["one", "two"])
def test_a_file_follows_while_both_folders_are_being_listed(tmp_path: Path, first: str, edited: bool) -> None:
    """Whichever answer comes first, neither listing can wait for the other: it is one file all the same."""
    remote = stocked()
    file_id = remote.account.entry(RemotePath("/one/file")).file_id

    async def story(world: World) -> None:
        await world.walk()
        before = await ino_of(world, "one/file")
        if edited:
            await world.save("one/file", b"ours")
        remote.other.move("/one/file", "/two/moved")
        async with being_listed(world, remote, "two" if first == "one" else "one"):
            await look(world, first)
        assert await ino_of(world, "two/moved") == before
        assert await world.drain() == []
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()["/two/moved"] == (b"ours" if edited else LARGE)
        assert "/one/file" not in remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)
    assert remote.account.entry(RemotePath("/two/moved")).file_id == file_id


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_folder_follows_while_both_folders_are_being_listed(tmp_path: Path, first: str) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        before = [await ino_of(world, path) for path in ("one/deep", "one/deep/inside")]
        await world.save("one/deep/inside", b"ours")
        await world.save("one/deep/new", b"new")
        remote.other.move("/one/deep", "/two/moved")
        async with being_listed(world, remote, "two" if first == "one" else "one"):
            await look(world, first)
        assert [await ino_of(world, path) for path in ("two/moved", "two/moved/inside")] == before
        assert await world.drain() == []
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()["/two/moved/inside"] == b"ours"
        assert "/one/deep" not in remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


def test_a_file_that_a_program_has_opened_in_its_new_place_stays_there(tmp_path: Path) -> None:
    """It was taken for a new one: its inode is in use by then, so the edit stays under the old name."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        remote.other.move("/one/file", "/two/moved")
        async with being_listed(world, remote, "one"):
            await look(world, "two")
            handle = await world.open("two/moved", os.O_RDONLY)
        assert await world.read(handle) == LARGE
        await world.fs.flush(handle)
        await world.fs.release(handle)
        assert await world.drain() == []
        await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert (found["/two/moved"], found["/one/file"]) == (LARGE, b"ours")
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


def test_a_file_deleted_there_is_not_kept_for_long(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.tree()
        remote.other.delete("/one/file")
        await look(world, "one")
        assert "one/file" not in (await world.walk()).attributes
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


# Edited here, moved there


@pytest.mark.parametrize("order", [*ORDERS, ("one",), ()], ids=lambda order: " ".join(order) or "unseen")
@pytest.mark.parametrize("to", ["/two/moved", "/moved", "/one/deep/moved", "/two/file"])
def test_an_edit_follows_a_move(tmp_path: Path, order: tuple[str, ...], to: str) -> None:
    """Whatever is listed first, and also where only the refused upload tells of it: one file, with its id."""
    remote = stocked()
    file_id = remote.account.entry(RemotePath("/one/file")).file_id

    async def story(world: World) -> None:
        await world.walk()
        before = await ino_of(world, "one/file")
        await world.save("one/file", b"ours")
        remote.other.move("/one/file", to)
        await look(world, *order)
        await world.drain()
        await world.refresh_all()
        assert await world.drain() == []
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()[to] == b"ours"
        assert "/one/file" not in remote.other.tree()
        assert await ino_of(world, to.lstrip("/")) == before
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.account.entry(RemotePath(to)).file_id == file_id


@pytest.mark.parametrize("order", [*ORDERS, ()], ids=lambda order: " ".join(order) or "unseen")
def test_many_edits_follow_at_once(tmp_path: Path, order: tuple[str, ...]) -> None:
    """More than are asked for one by one: where they are, the other folder's listing shows of all of them."""
    remote, names = stocked(), [f"{number:02}" for number in range(20)]
    for name in names:
        remote.other.write(f"/one/{name}", name.encode())

    async def story(world: World) -> None:
        await world.walk()
        for name in names:
            await world.save(f"one/{name}", f"ours {name}".encode())
            remote.other.move(f"/one/{name}", f"/two/{name}")
        await look(world, *order)
        await world.drain()
        await world.refresh_all()
        assert await world.drain() == []
        found = remote.other.tree()
        assert await world.tree() == found
        assert {found[f"/two/{name}"] for name in names} == {f"ours {name}".encode() for name in names}
        assert not {f"/one/{name}" for name in names} & found.keys()
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


@pytest.mark.parametrize(
    ("path", "to", "order"),
    [
        *(("inside", "/two/inside", order) for order in (*ORDERS, ())),
        ("deeper/inside", "/two/inside", ("two", "one")),
        ("deeper/inside", "/two/inside", ("one",)),
        ("inside", "/one/inside", ("one",)),
        ("inside", "/inside", ()),
    ],
)
def test_an_edit_follows_out_of_a_folder_that_is_removed_then(
    tmp_path: Path, path: str, to: str, order: tuple[str, ...]
) -> None:
    """As people tidy up: what is in a folder goes elsewhere, and the empty folder goes."""
    remote = stocked()
    if path != "inside":
        remote.other.mkdir("/one/deep/deeper")
        remote.other.move("/one/deep/inside", f"/one/deep/{path}")
    remote.other.write("/one/deep/clean", b"clean")

    async def story(world: World) -> None:
        await world.walk()
        before = await ino_of(world, f"one/deep/{path}")
        await world.save(f"one/deep/{path}", b"ours")
        remote.other.move(f"/one/deep/{path}", to)
        remote.other.move("/one/deep/clean", "/two/clean")
        remote.other.delete("/one/deep")
        await look(world, *order)
        await world.drain()
        await world.refresh_all()
        assert await world.drain() == []
        found = remote.other.tree()
        assert await world.tree() == found
        assert (found[to], found["/two/clean"]) == (b"ours", b"clean")
        assert "/one/deep" not in found
        assert await ino_of(world, to[1:]) == before
        await world.check_nothing_left()

    tell(tmp_path, story, remote, poll_s=0)


def test_an_edit_follows_into_a_folder_that_nobody_here_has_seen(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        for path in ("/new", "/new/deep"):
            remote.other.mkdir(path)
        remote.other.move("/one/file", "/new/deep/moved")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()["/new/deep/moved"] == b"ours"
        assert "/one/file" not in remote.other.tree()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_an_open_handle_writes_on_in_the_new_place(tmp_path: Path, order: tuple[str, ...]) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "one/file") as handle:
            await world.fs.write(handle, 0, b"ours")
            await world.fs.flush(handle)
            remote.other.move("/one/file", "/two/moved")
            await look(world, *order)
            await world.fs.write(handle, 4, b", and more")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()["/two/moved"] == b"ours, and more" + LARGE[14:]
        assert "/one/file" not in remote.other.tree()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", [*ORDERS, ()], ids=lambda order: " ".join(order) or "unseen")
def test_an_edit_of_what_was_moved_and_written_there_is_a_conflict_there(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        remote.other.move("/one/file", "/two/moved")
        remote.other.write("/two/moved", b"theirs", mtime_s=1_650_000_000)
        await look(world, *order)
        for _ in range(2):
            await world.drain()
            await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert found["/two/moved"] == b"theirs"
        (copy,) = (path for path, data in found.items() if data == b"ours")
        assert copy.startswith("/two/moved (conflicted copy")
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_edited_files_that_change_folders_with_each_other(tmp_path: Path) -> None:
    """Each folder's listing wants the other one's: where both come at once, one of them may be taken for a new file."""
    remote = stocked()
    remote.other.write("/two/other", b"other")

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"file, ours")
        await world.save("two/other", b"other, ours")
        remote.other.move("/one/file", "/two/file")
        remote.other.move("/two/other", "/one/other")
        async with trio.open_nursery() as nursery:
            for path in ("one", "two"):
                nursery.start_soon(look, world, path)
        with trio.fail_after(600):
            for _ in range(2):
                await world.drain()
                await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert {b"file, ours", b"other, ours"} <= set(found.values())
        assert found.keys() >= {"/two/file", "/one/other"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", [*ORDERS, ()], ids=lambda order: " ".join(order) or "unseen")
@pytest.mark.parametrize("swapped", [False, True], ids=["refilled", "swapped"])
def test_an_edit_stays_beside_what_took_its_name(
    tmp_path: Path, order: tuple[str, ...], *, swapped: bool
) -> None:
    """What has the id may be a backup that an editor moved away: what the user saw is the name."""
    remote = stocked()
    remote.other.write("/two/other", b"other")
    there = (
        {"/one/file": b"another", "/two/other": LARGE}
        if swapped
        else {"/one/file": b"new", "/two/moved": LARGE}
    )

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        if swapped:
            remote.other.write("/two/other", b"another", mtime_s=1_650_000_000)
            remote.other.move("/one/file", "/file")
            remote.other.move("/two/other", "/one/file")
            remote.other.move("/file", "/two/other")
        else:
            remote.other.move("/one/file", "/two/moved")
            remote.other.write("/one/file", b"new", mtime_s=1_650_000_000)
        await look(world, *order)
        for _ in range(2):
            assert await world.drain() == []
            await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert {path: found[path] for path in there} == there
        (copy,) = (path for path, data in found.items() if data == b"ours")
        assert copy.startswith("/one/file (conflicted copy")
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize(
    "fault", [FaultKind.REFUSE, FaultKind.FAULT, FaultKind.STRANGE, FaultKind.UNAVAILABLE]
)
def test_where_nobody_can_tell_where_it_went_no_byte_is_lost(tmp_path: Path, fault: FaultKind) -> None:
    remote = stocked()
    remote.faults.next("find", [fault] * 3)

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        remote.other.move("/one/file", "/two/moved")
        for _ in range(2):
            await world.drain()
            await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert b"ours" in found.values()
        if fault is FaultKind.REFUSE:
            assert found["/two/moved"] == b"ours", "without an answer nothing is concluded"
        await world.check_nothing_left()

    # Alone: where somebody else lists one of the folders in the same moment, it may be taken for two files.
    tell(tmp_path, story, remote, poll_s=0)


def test_where_that_question_never_gets_through_it_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """A proxy may let everything pass but SEARCH."""
    remote = stocked()
    remote.faults.next("find", [FaultKind.REFUSE] * 10_000)

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        remote.other.delete("/one/file")
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert remote.other.tree()["/one/file"] == b"ours"
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_an_edit_of_what_was_deleted_there_is_made_anew(tmp_path: Path) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/file", b"ours")
        remote.other.delete("/one/file")
        await world.drain()
        assert remote.other.tree()["/one/file"] == b"ours"

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("to", ["/two/moved", "/one/renamed"])
def test_a_part_written_here_follows_though_the_rest_was_not_read_before(tmp_path: Path, to: str) -> None:
    """What is below the part is looked for at the old place first."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "one/file") as handle:
            await world.fs.write(handle, 0, b"ours")
        remote.other.move("/one/file", to)
        assert await world.drain() == []
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()[to] == b"ours" + LARGE[4:]
        assert "/one/file" not in remote.other.tree()

    tell(tmp_path, story, remote)


# Something in it edited here, the folder moved there

FOLDER_ORDERS = [*ORDERS, ("one",), ()]


@pytest.mark.parametrize("order", FOLDER_ORDERS, ids=lambda order: " ".join(order) or "unseen")
@pytest.mark.parametrize("to", ["/two/moved", "/moved", "/two/deep", "/two/new/moved"])
def test_what_was_done_in_a_folder_follows_its_move(tmp_path: Path, order: tuple[str, ...], to: str) -> None:
    """Edits, new files and folders, removals, renames, and what never leaves this machine: all with its folder."""
    remote = stocked()
    for name in ("renamed", "removed", "untouched"):
        remote.other.write(f"/one/deep/{name}", name.encode())
    remote.other.mkdir("/one/deep/below")
    remote.other.write("/one/deep/below/more", b"more")
    ids = {
        name: remote.account.entry(RemotePath(f"/one/deep{name}")).file_id
        for name in ("", "/inside", "/renamed", "/below/more")
    }

    async def story(world: World) -> None:
        await world.walk()
        before = [await ino_of(world, f"one/deep{path}") for path in ("", "/inside", "/below")]
        await world.save("one/deep/inside", b"ours")
        await world.save("one/deep/below/more", b"more of ours")
        await world.save("one/deep/new", b"new")
        await world.mkdir("one/deep/folder")
        await world.save("one/deep/folder/in it", b"in it")
        await world.save("one/deep/.~lock.inside#", b"lock")
        await world.rename("one/deep/renamed", "one/deep/otherwise")
        await world.unlink("one/deep/removed")
        if to == "/two/new/moved":
            remote.other.mkdir("/two/new")
        remote.other.move("/one/deep", to)
        await look(world, *order)
        await world.drain()
        await world.refresh_all()
        assert await world.drain() == []
        tree, there = await world.tree(), remote.other.tree()
        assert tree.pop(f"{to}/.~lock.inside#") == b"lock"
        assert tree == there
        assert {path.removeprefix(to): data for path, data in there.items() if path.startswith(f"{to}/")} == {
            "/inside": b"ours",
            "/below": None,
            "/below/more": b"more of ours",
            "/new": b"new",
            "/folder": None,
            "/folder/in it": b"in it",
            "/otherwise": b"renamed",
            "/untouched": b"untouched",
        }
        assert "/one/deep" not in there
        assert [await ino_of(world, f"{to[1:]}{path}") for path in ("", "/inside", "/below")] == before
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    ids["/otherwise"] = ids.pop("/renamed")
    assert {name: remote.account.entry(RemotePath(to + name)).file_id for name in ids} == ids


@pytest.mark.parametrize("order", FOLDER_ORDERS, ids=lambda order: " ".join(order) or "unseen")
def test_a_lock_file_alone_does_not_have_a_moved_folder_made_again(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/deep/.~lock.inside#", b"lock")
        remote.other.move("/one/deep", "/two/deep")
        await look(world, *order)
        await world.refresh_all()
        assert await world.drain() == []
        tree = await world.tree()
        assert tree.pop("/two/deep/.~lock.inside#") == b"lock"
        assert tree == remote.other.tree()
        assert "/one/deep" not in tree

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", FOLDER_ORDERS, ids=lambda order: " ".join(order) or "unseen")
def test_what_was_edited_here_and_there_in_a_folder_that_was_moved_there_is_a_conflict_in_it(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/deep/inside", b"ours")
        remote.other.move("/one/deep", "/two/deep")
        remote.other.write("/two/deep/inside", b"theirs", mtime_s=1_650_000_000)
        remote.other.write("/two/deep/new", b"new of theirs", mtime_s=1_650_000_000)
        await look(world, *order)
        for _ in range(2):
            await world.drain()
            await world.refresh_all()
        found = remote.other.tree()
        assert await world.tree() == found
        assert found["/two/deep/inside"] == b"theirs"
        assert found["/two/deep/new"] == b"new of theirs"
        (copy,) = (path for path, data in found.items() if data == b"ours")
        assert copy.startswith("/two/deep/inside (conflicted copy")
        assert "/one/deep" not in found
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("order", FOLDER_ORDERS, ids=lambda order: " ".join(order) or "unseen")
def test_two_folders_that_were_moved_into_each_other(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Here `two` went into `deep`, there `deep` went into `two`: nothing goes round in circles, and nothing is lost."""
    remote = stocked()
    remote.other.write("/two/other", b"other")

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/deep/inside", b"ours")
        await world.rename("two", "one/deep/two")
        remote.other.move("/one/deep", "/two/deep")
        await look(world, *(path if path != "two" else "one/deep/two" for path in order))
        with trio.fail_after(600):
            for _ in range(3):
                await world.drain()
                await world.refresh_all()
            assert await world.drain() == []
        found = remote.other.tree()
        assert await world.tree() == found
        assert {b"ours", b"other", LARGE} <= set(found.values())
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_a_folder_whose_place_is_local_here_takes_nothing_of_a_moved_one_up(tmp_path: Path) -> None:
    """There `deep` went into `two`, which was given a name of this machine alone: it is all kept here, and not sent."""
    remote = stocked()

    async def story(world: World) -> None:
        await world.walk()
        await world.save("one/deep/inside", b"ours")
        remote.other.move("/one/deep", "/two/deep")
        await world.rename("two", "two~")
        await look(world, "one")
        for _ in range(2):
            await world.drain()
            await world.refresh_all()
        tree = await world.tree()
        assert b"ours" in tree.values()
        local = {path for path in tree if path.startswith("/two~")}
        assert {path: data for path, data in tree.items() if path not in local} == remote.other.tree()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("to", ["/two/moved", "/one/renamed"])
def test_a_part_written_here_follows_with_its_folder_though_the_rest_was_not_read_before(
    tmp_path: Path, to: str
) -> None:
    """The file is the same as before to us, in the same folder: only that one is elsewhere."""
    remote = stocked()
    remote.other.write("/one/deep/large", LARGE)

    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "one/deep/large") as handle:
            await world.fs.write(handle, 0, b"ours")
        remote.other.move("/one/deep", to)
        assert await world.drain() == []
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert remote.other.tree()[f"{to}/large"] == b"ours" + LARGE[4:]
        assert "/one/deep" not in remote.other.tree()

    tell(tmp_path, story, remote)


def test_moves_of_other_clients_are_no_reason_to_keep_what_one_of_them_removes(tmp_path: Path) -> None:
    """What is found elsewhere has not vanished: however much is moved, a single removal is believed afterwards."""
    remote = stocked()
    for number in range(30):
        remote.other.write(f"/one/deep/{number}", b"one of many")

    async def story(world: World) -> None:
        await world.walk()
        for _ in range(3):
            for source, target in (("one", "two"), ("two", "one")):
                remote.other.move(f"/{source}/deep", f"/{target}/deep")
                await look(world, source, target)
                await world.walk()
        remote.other.delete("/one/file")
        await look(world, "one")
        assert world.engine.deletions.vanished() is None
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)
