"""Replies that get lost after the server did what it was asked for, and what programs do before it is found out.

Whatever they do, both sides come to what the mount shows: nothing comes back, nothing becomes a conflicted copy.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from cloudfs.errors import Forbidden, Unreachable
from cloudfs.paths import is_local_only
from cloudfs.types import RemoteEntry, RemotePath
from cloudfs.vfs.records import RenameMode
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell
from tests.sync.plain_remote import PlainRemote

Act = Callable[[World], Awaitable[None]]
Then = Callable[[World, str], Awaitable[None]]


def stocked(kind: type[FakeRemote]) -> FakeRemote:
    remote = kind()
    remote.other.mkdir("/d")
    remote.other.mkdir("/f")
    for path in ("/a", "/b", "/d/x"):
        remote.other.write(path, f"stock of {path}".encode())
    return remote


# What loses its reply: the method, the path that it is about, and what causes it.


async def create(world: World) -> None:
    await world.save("new", b"1")


async def create_empty(world: World) -> None:
    await world.fs.release(await world.create("new"))


async def mkdir(world: World) -> None:
    await world.mkdir("new")


async def fill_a_new_folder(world: World) -> None:
    await world.mkdir("new")
    await world.save("new/inside", b"2")


async def rename(world: World) -> None:
    await world.rename("a", "new")


async def rename_and_create_anew(world: World) -> None:
    await world.rename("a", "new")
    await world.save("a", b"anew")


async def rename_a_folder(world: World) -> None:
    await world.rename("d", "new")


async def rename_into_a_folder(world: World) -> None:
    await world.rename("a", "f/new")


async def save_by_rename(world: World) -> None:
    await world.save("temporary", b"saved")
    await world.rename("temporary", "a")


async def overwrite(world: World) -> None:
    await world.save("a", b"overwritten")


async def edit_and_rename(world: World) -> None:
    await world.save("a", b"edited")
    await world.rename("a", "new")


async def edit_and_rename_over(world: World) -> None:
    await world.save("a", b"edited")
    await world.rename("a", "d/x")


FIRST: dict[str, tuple[str, str, Act]] = {
    "create": ("put", "new", create),
    "create empty": ("put", "new", create_empty),
    "mkdir": ("make_folder", "new", mkdir),
    "mkdir and fill": ("make_folder", "new", fill_a_new_folder),
    "rename": ("move", "new", rename),
    "rename and create anew": ("move", "new", rename_and_create_anew),
    "rename a folder": ("move", "new", rename_a_folder),
    "rename into a folder": ("move", "f/new", rename_into_a_folder),
    "save by rename": ("put", "a", save_by_rename),
    "overwrite": ("put", "a", overwrite),
    "edit and rename": ("move", "new", edit_and_rename),
    "edit and rename over": ("put", "d/x", edit_and_rename_over),
}


# What programs do next with that path


async def nothing(_world: World, _path: str) -> None:
    await trio.lowlevel.checkpoint()


async def rename_on(world: World, path: str) -> None:
    await world.rename(path, "elsewhere")


async def move_on(world: World, path: str) -> None:
    await world.rename(path, "f/elsewhere")


async def remove(world: World, path: str) -> None:
    shown = (await world.walk()).attributes
    for below in sorted((one for one in shown if one == path or one.startswith(path + "/")), reverse=True):
        await (world.rmdir if shown[below].links == 2 else world.unlink)(below)


async def remove_and_create(world: World, path: str) -> None:
    await remove(world, path)
    await world.save(path, b"another")


async def remove_and_mkdir(world: World, path: str) -> None:
    await remove(world, path)
    await world.mkdir(path)


async def rename_and_create(world: World, path: str) -> None:
    await world.rename(path, "elsewhere")
    await world.save(path, b"another")


async def rename_and_mkdir(world: World, path: str) -> None:
    await world.rename(path, "elsewhere")
    await world.mkdir(path)


async def exchange(world: World, path: str) -> None:
    await world.rename(path, "b", RenameMode.EXCHANGE)


async def exchange_with_a_new_file(world: World, path: str) -> None:
    await world.save("fresh", b"fresh")
    await world.rename(path, "fresh", RenameMode.EXCHANGE)


async def keep_here(world: World, path: str) -> None:
    await world.rename(path, "here~")


async def move_its_folder(world: World, path: str) -> None:
    await world.mkdir("g")
    await world.rename("f", "g/f")
    if not path.startswith("f/"):
        await world.rename(path, "g/f/moved")


async def put_another_in_its_place(world: World, path: str) -> None:
    if (await world.lookup(path)).links == 2:
        await exchange(world, path)
        return
    await world.save("temporary", b"saved once more")
    await world.rename("temporary", path)


async def put_it_in_anothers_place(world: World, path: str) -> None:
    if (await world.lookup(path)).links == 2:
        await world.rmdir("f")
        await world.rename(path, "f")
        return
    await world.rename(path, "b")


THEN: tuple[Then, ...] = (
    nothing,
    rename_on,
    move_on,
    remove,
    remove_and_create,
    remove_and_mkdir,
    rename_and_create,
    rename_and_mkdir,
    exchange,
    exchange_with_a_new_file,
    keep_here,
    move_its_folder,
    put_another_in_its_place,
    put_it_in_anothers_place,
)


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("then", THEN, ids=lambda act: act.__name__)
@pytest.mark.parametrize("first", FIRST)
def test_both_sides_come_to_what_the_mount_shows(
    tmp_path: Path, kind: type[FakeRemote], first: str, then: Then
) -> None:
    lose_a_reply(tmp_path, kind, first, then, killed=False)


@pytest.mark.parametrize("then", [nothing, rename_on, remove, keep_here], ids=lambda act: act.__name__)
@pytest.mark.parametrize("first", FIRST)
def test_the_same_after_a_kill(tmp_path: Path, first: str, then: Then) -> None:
    lose_a_reply(tmp_path, FakeRemote, first, then, killed=True)


def lose_a_reply(tmp_path: Path, kind: type[FakeRemote], first: str, then: Then, *, killed: bool) -> None:
    remote = stocked(kind)
    method, path, act = FIRST[first]
    remote.faults.next(method, [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.tree()
        await act(world)
        while not remote.faults.happened:
            await trio.sleep(0.05)
        if killed:
            await world.kill()
        await then(world, path)
        wanted = await world.tree()
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert await world.tree() == wanted
        shared = {path: it for path, it in wanted.items() if not any(map(is_local_only, path.split("/")))}
        assert remote.other.tree() == shared
        await world.check_nothing_left()
        assert not world.engine.store.conflicts()

    tell(tmp_path, story, remote)


# More than one reply is lost, or a look fails


async def extend(world: World, path: str, data: bytes) -> None:
    """Write at the end of a file, as `>>` does: on what was written to it and not sent."""
    size = (await world.lookup(path)).size
    async with opened(world, path, os.O_WRONLY) as handle:
        await world.write(handle, size, data)


async def happened(remote: FakeRemote, count: int) -> None:
    while len(remote.faults.happened) < count:
        await trio.sleep(0.05)


async def asked(remote: FakeRemote, line: str, count: int = 1) -> None:
    while remote.methods().count(line) < count:
        await trio.sleep(0.01)


async def both_show_what_the_mount_shows_now(world: World) -> None:
    wanted = await world.tree()
    await world.drain()
    await world.refresh_all()
    await world.drain()
    assert await world.tree() == wanted
    assert world.remote.other.tree() == wanted
    await world.check_nothing_left()
    assert not world.engine.store.conflicts()


@pytest.mark.parametrize("then", [nothing, rename_on, move_on, remove], ids=lambda act: act.__name__)
@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("path", ["a", "new"])
def test_every_content_that_was_sent_is_recognised(
    tmp_path: Path, kind: type[FakeRemote], path: str, then: Then
) -> None:
    """The first one arrived and was answered with 502, the file was written further, the second never arrived."""
    remote = stocked(kind)
    remote.faults.next("put", [FaultKind.BAD_GATEWAY, FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await world.save(path, b"first")
        await happened(remote, 1)
        await extend(world, path, b", second")
        with trio.move_on_after(30):  # a new file is looked for first, and what arrived is known by then
            await happened(remote, 2)
        await world.kill()
        await then(world, path)
        await both_show_what_the_mount_shows_now(world)

    tell(tmp_path, story, remote)


@dataclass
class Telling(FakeRemote):
    """Tells when it was looked what stands at `/new`."""

    looked_at: trio.Event = field(default_factory=trio.Event)

    async def stat(self, path: RemotePath) -> RemoteEntry:
        entry = await super().stat(path)
        if path == "/new":
            self.looked_at.set()
        return entry


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [None, 3], ids=["written", "cut"])
def test_what_is_written_while_an_upload_is_recognised_goes_up(
    tmp_path: Path, size: int | None, seed: int
) -> None:
    """A program has the file open when the server is found to have it as it was sent, and goes on writing.

    The seeds draw between which two steps of giving up the staging file the write comes.
    """
    remote = Telling()
    remote.faults.next("put", [FaultKind.BAD_GATEWAY])

    async def story(world: World) -> None:
        await world.save("new", b"first")
        await happened(remote, 1)
        ino = (await world.lookup("new")).ino
        async with opened(world, "new") as handle:
            await remote.looked_at.wait()
            while not world.engine.store.nodes.get(ino).synced:  # type: ignore[union-attr]  # it is there
                await trio.lowlevel.checkpoint()
            if size is None:
                await world.write(handle, 5, b", second")
            else:
                await world.fs.setattr(ino, size=size, handle=handle)
        assert await world.read_file("new") == (b"first, second" if size is None else b"fir")
        await both_show_what_the_mount_shows_now(world)

    tell(tmp_path, story, remote, seed=seed)


@pytest.mark.parametrize("truncating", [False, True], ids=["old or new", "cut"])
@pytest.mark.parametrize("fault", [FaultKind.BAD_GATEWAY, FaultKind.CUT])
@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
def test_an_edit_that_was_taken_back_while_its_upload_was_in_doubt_is_taken_back_there_too(
    tmp_path: Path, fault: FaultKind, *, truncating: bool, killed: bool
) -> None:
    """The bytes are again those that the server had, and it may have others by now."""
    remote = stocked(FakeRemote)
    remote.truncating = truncating
    remote.faults.next("put", [None, fault])

    async def story(world: World) -> None:
        await world.save("a", b"first")
        await world.drain()
        await world.save("a", b"second, and longer")
        await happened(remote, 1)
        if killed:
            await world.kill()
        await world.save("a", b"first")
        await both_show_what_the_mount_shows_now(world)
        assert remote.other.tree()["/a"] == b"first"

    tell(tmp_path, story, remote)


async def write_on(world: World, path: str) -> None:
    await extend(world, path, b", second")


async def rename_and_write_on(world: World, path: str) -> None:
    await world.rename(path, "elsewhere")
    await extend(world, "elsewhere", b", second")


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
@pytest.mark.parametrize(
    "then", [nothing, rename_on, remove, write_on, rename_and_write_on], ids=lambda act: act.__name__
)
def test_a_file_whose_time_was_set_without_an_answer_is_ours(
    tmp_path: Path, then: Then, *, killed: bool
) -> None:
    """Its ETag is another one by that, and no checksum is beside it any more."""
    remote = stocked(FakeRemote)
    remote.faults.next("set_mtime", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", b"first")
        await world.drain()
        await world.fs.setattr((await world.lookup("a")).ino, mtime_ns=1_600_000_000 * 10**9)
        await happened(remote, 1)
        if killed:
            await world.kill()
        await then(world, "a")
        await both_show_what_the_mount_shows_now(world)

    tell(tmp_path, story, remote)


def test_an_edit_of_a_file_whose_time_another_client_set_is_no_conflict(tmp_path: Path) -> None:
    remote = stocked(FakeRemote)

    async def story(world: World) -> None:
        await world.save("a", b"first")
        await world.drain()
        remote.account.set_mtime(RemotePath("/a"), 1_600_000_000)
        await extend(world, "a", b", second")
        await both_show_what_the_mount_shows_now(world)
        assert remote.other.tree()["/a"] == b"first, second"

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a folder"])
def test_a_file_whose_time_another_client_set_can_be_removed(tmp_path: Path, *, inside: bool) -> None:
    """So can one whose time we set ourselves, while nobody knows of it: it has the bytes that were removed."""
    remote = stocked(FakeRemote)

    async def story(world: World) -> None:
        await world.mkdir("folder")
        await world.save("folder/a", b"first")
        await world.drain()
        remote.account.set_mtime(RemotePath("/folder/a"), 1_600_000_000)
        await world.unlink("folder/a")
        if inside:
            await world.rmdir("folder")
        await world.drain()
        assert "/folder/a" not in remote.other.tree()

    tell(tmp_path, story, remote)


# What a request does after its client was killed


async def put_comes_late(remote: FakeRemote) -> None:
    checksum = "SHA1:356a192b7913b04c54574d18c28d46e6395428ab" if remote.features.checksums else None
    remote.other.write("/new", b"1", mtime_s=1_700_000_000, checksum=checksum)


async def move_comes_late(remote: FakeRemote) -> None:
    remote.other.move("/a", "/new")


async def folder_comes_late(remote: FakeRemote) -> None:
    remote.other.mkdir("/new")


LATE: dict[str, tuple[str, Act, Callable[[FakeRemote], Awaitable[None]]]] = {
    "create": ("put", create, put_comes_late),
    "rename": ("move", rename, move_comes_late),
    "mkdir": ("make_folder", mkdir, folder_comes_late),
}


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("then", [rename_on, move_on, remove, keep_here], ids=lambda act: act.__name__)
@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("looked", [False, True], ids=["before the look", "after it"])
def test_a_request_that_is_carried_out_after_the_first_look_leaves_nothing(
    tmp_path: Path, what: str, then: Then, kind: type[FakeRemote], *, looked: bool
) -> None:
    """The process was killed while the server was at work on it: it goes on without its client."""
    remote = stocked(kind)
    method, act, comes_late = LATE[what]
    remote.faults.next(method, [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await act(world)
        await happened(remote, 1)
        await world.kill()
        if looked:
            await asked(remote, "stat /new")  # in vain, and so the same is about to be tried again
        await then(world, "new")
        await asked(remote, "stat /new")
        await trio.sleep(2)
        await comes_late(remote)
        wanted = await world.tree()
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert await world.tree() == wanted
        assert remote.other.tree() == {path: it for path, it in wanted.items() if not is_local_only(path[1:])}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("then", [rename_on, move_on, remove], ids=lambda act: act.__name__)
def test_a_refusal_of_the_second_try_says_nothing_about_the_first(tmp_path: Path, then: Then) -> None:
    """507, while the server may still be at work on what it was asked for before."""
    remote = stocked(FakeRemote)
    remote.faults.next("put", [FaultKind.REFUSE, FaultKind.FULL])

    async def story(world: World) -> None:
        await world.tree()
        await create(world)
        await happened(remote, 2)
        await trio.sleep(0.1)
        await then(world, "new")
        await trio.sleep(1)
        await put_comes_late(remote)
        await both_show_what_the_mount_shows_now(world)

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
@pytest.mark.parametrize("then", [rename_on, move_on, remove], ids=lambda act: act.__name__)
@pytest.mark.parametrize("what", LATE)
def test_a_look_that_fails_leaves_the_doubt(tmp_path: Path, what: str, then: Then, *, killed: bool) -> None:
    """The first try comes late, the second meets it, and the look that would tell so is refused."""
    remote = stocked(FakeRemote)
    method, act, comes_late = LATE[what]
    remote.faults.next(method, [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await act(world)
        await asked(remote, "stat /new")
        await comes_late(remote)
        remote.faults.next("stat", [FaultKind.FAULT])
        await happened(remote, 2)
        if killed:
            await world.kill()
        await then(world, "new")
        await both_show_what_the_mount_shows_now(world)

    tell(tmp_path, story, remote)


def test_a_folder_of_another_client_is_not_moved_along(tmp_path: Path) -> None:
    """Our MKCOL never arrived, the folder that stands there is another client's, and ours went elsewhere."""
    remote = stocked(FakeRemote)
    remote.faults.next("make_folder", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.mkdir("new")
        while not remote.faults.happened:
            await trio.sleep(0.05)
        remote.other.mkdir("/new")
        remote.other.write("/new/theirs", b"theirs")
        await world.rename("new", "elsewhere")
        await world.drain()
        await world.refresh_all()
        tree = await world.tree()
        assert tree == remote.other.tree()
        assert (tree["/new/theirs"], tree["/elsewhere"]) == (b"theirs", None)

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
def test_a_removal_that_is_carried_out_after_the_first_look_is_known_to_be_ours(
    tmp_path: Path, kind: type[FakeRemote]
) -> None:
    """The folder stays here under a local name, whole, and is found to be gone there when it is to be removed again."""
    remote = stocked(kind)
    remote.other.mkdir("/d/empty")
    remote.faults.next("delete", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("d", "d~")
        await happened(remote, 1)
        await asked(remote, "stat /d")
        remote.other.delete("/d")
        await world.drain()
        tree = await world.tree()
        assert (tree["/d~/x"], tree["/d~/empty"]) == (b"stock of /d/x", None)
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
def test_a_folder_is_not_removed_before_it_is_known_whether_something_was_moved_out_of_it(
    tmp_path: Path, *, killed: bool
) -> None:
    """The move is carried out while the folder is removed: what it took along must not come back as another's."""
    remote = stocked(FakeRemote)
    remote.latency_s = 0.5
    remote.faults.next("move", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("d/x", "e")
        await happened(remote, 1)
        await world.rename("e", "d/x")
        await world.rename("d", "d~")
        if killed:
            await world.kill()
        listed = remote.methods().count("list_folder /d")
        with trio.move_on_after(8):
            await asked(remote, "list_folder /d", listed + 1)
        remote.other.move("/d/x", "/e")
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert (await world.tree())["/d~/x"] == b"stock of /d/x"
        assert sorted(remote.other.tree()) == ["/a", "/b", "/f"]
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("looked", [False, True], ids=["before the look", "after it"])
def test_a_folder_whose_place_another_one_took_before_it_was_moved_is_not_tried_for_ever(
    tmp_path: Path, *, looked: bool
) -> None:
    """The first move never arrived, and what is there by now is not the folder that was to be moved."""
    remote = stocked(FakeRemote)
    remote.faults.next("move", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("d", "new")
        await happened(remote, 1)
        if looked:
            await asked(remote, "stat /new")
        remote.other.delete("/d")
        remote.other.mkdir("/d")
        remote.other.write("/d/theirs", b"theirs")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        assert b"theirs" in remote.other.tree().values()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


def test_another_content_in_the_place_that_was_tried_is_a_conflict(tmp_path: Path) -> None:
    remote = stocked(FakeRemote)
    remote.faults.next("put", [FaultKind.REFUSE])

    async def story(world: World) -> None:
        await world.save("new", b"ours")
        while not remote.faults.happened:
            await trio.sleep(0.05)
        remote.other.write("/new", b"theirs")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == remote.other.tree()
        contents = [data for path, data in remote.other.tree().items() if path.startswith("/new")]
        assert sorted(filter(None, contents)) == [b"ours", b"theirs"]
        assert len(world.engine.store.conflicts()) == 1

    tell(tmp_path, story, remote)


# A removal that was carried out, of what the mount goes on showing


async def back_to_its_name(world: World, path: str) -> None:
    await world.rename(f"{path}~", path)


async def to_another_name(world: World, path: str) -> None:
    await world.rename(f"{path}~", "elsewhere")


async def into_a_folder(world: World, path: str) -> None:
    await world.rename(f"{path}~", "f/elsewhere")


async def in_parts(world: World, path: str) -> None:
    """Some of it comes back by itself, where it has parts."""
    part = f"{path}~/empty" if path == "d" else f"{path}~"
    await world.rename(part, "elsewhere")


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "killed"])
@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("then", [back_to_its_name, to_another_name, into_a_folder, in_parts])
@pytest.mark.parametrize("path", ["d", "a", "none", "hollow"])
def test_what_comes_back_from_a_local_name_while_its_removal_is_in_doubt_is_whole(
    tmp_path: Path, path: str, then: Then, kind: type[FakeRemote], *, killed: bool
) -> None:
    """Its removal on the server was ours, and it stays here: nobody else took its empty folders and files away."""
    remote = stocked(kind)
    for folder in ("/d/empty", "/d/empty/deeper", "/hollow"):
        remote.other.mkdir(folder)
    for empty in ("/d/none", "/none"):
        remote.other.write(empty, b"")
    remote.faults.next("delete", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.tree()
        await world.rename(path, f"{path}~")
        await happened(remote, 1)
        if killed:
            await world.kill()
        wanted = await world.tree()
        await then(world, path)
        shown = await world.tree()
        assert len(shown) == len(wanted)
        await world.drain()
        await world.refresh_all()
        await world.drain()
        assert await world.tree() == shown
        assert remote.other.tree() == {
            path: it for path, it in shown.items() if not any(map(is_local_only, path.split("/")))
        }
        await world.check_nothing_left()

    tell(tmp_path, story, remote)


class Filling(FakeRemote):
    """Another client puts something new into `/d` after each look into it, until a reply is lost."""

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        own, members = await super().list_folder(path)
        if path == "/d" and not self.faults.happened:
            self.other.write(f"/d/theirs {len(members)}", b"theirs")
        return own, members


def test_an_empty_file_comes_back_whose_removal_is_in_doubt_in_a_folder_that_stays(tmp_path: Path) -> None:
    """What the folder held is removed file by file there, as something new is in it."""
    remote = Filling()
    remote.other.mkdir("/d")
    remote.other.write("/d/none", b"")
    remote.faults.next("delete", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("d", "d~")
        await happened(remote, 1)
        assert [line for line in remote.methods() if line.startswith("delete")] == ["delete /d/none"]
        await world.rename("d~", "d")
        await world.drain()
        await world.refresh_all()
        await world.drain()
        tree = await world.tree()
        assert tree == remote.other.tree()
        assert tree["/d/none"] == b""
        assert tree["/d/theirs 1"] == b"theirs"

    tell(tmp_path, story, remote)


class Refusing(FakeRemote):
    """Refuses what it is asked to make."""

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> None:  # type: ignore[override]  # it never returns
        del mtime_s
        await trio.sleep(1)
        raise Forbidden("not allowed", subject=path, status=403)


def test_what_was_refused_leaves_no_doubt(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("new")
        assert await world.drain()
        assert world.engine.store.nodes.tried() == []
        await world.rmdir("new")
        await world.check_nothing_left()

    remote = tell(tmp_path, story, Refusing())
    assert not [line for line in remote.methods() if line.startswith("stat /new")]


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote], ids=["file ids", "plain"])
@pytest.mark.parametrize("kept_open", [False, True])
@pytest.mark.parametrize(("source", "target"), [("d/x", "f/y"), ("d", "moved")], ids=["file", "folder"])
def test_a_file_whose_move_lost_its_answer_can_be_read(
    tmp_path: Path, kind: type[FakeRemote], source: str, target: str, *, kept_open: bool
) -> None:
    """Not cached, and at its old place there is nothing any more: that says nothing about the file."""
    remote = stocked(kind)
    remote.faults.next("move", [FaultKind.LOSE_REPLY])
    path = target if source == "d/x" else f"{target}/x"

    async def story(world: World) -> None:
        await world.lookup("d/x")
        async with AsyncExitStack() as stack:
            early = await stack.enter_async_context(opened(world, "d/x")) if kept_open else None
            await world.rename(source, target)
            while not [line for line in remote.methods() if line.startswith("move ")]:
                await trio.sleep(0.01)
            handle = await stack.enter_async_context(opened(world, path)) if early is None else early
            with trio.fail_after(7.5):
                assert await world.fs.read(handle, 0, 100) == b"stock of /d/x"
        await world.drain()

    tell(tmp_path, story, remote)


def test_a_move_that_stays_in_doubt_makes_no_file_stale(tmp_path: Path) -> None:
    remote = stocked(FakeRemote)
    remote.faults.next("move", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.lookup("a")
        async with opened(world, "a") as handle:
            await world.rename("a", "new")
            while not [line for line in remote.methods() if line.startswith("move ")]:
                await trio.sleep(0.01)
            remote.faults.next("stat", [FaultKind.LOCKED] * 6)
            began = trio.current_time()
            with pytest.raises(Unreachable, match="not known yet"):
                await world.fs.read(handle, 0, 100)
            assert trio.current_time() - began <= 15
            await world.drain()
            assert await world.fs.read(handle, 0, 100) == b"stock of /a"

    tell(tmp_path, story, remote)


def test_a_folder_whose_move_lost_its_answer_can_be_looked_into(tmp_path: Path) -> None:
    """Nobody had seen into it, and at its old place there is nothing any more: that says nothing about the folder."""
    remote = FakeRemote()
    remote.other.mkdir("/folder")
    remote.other.write("/folder/inside", b"content")
    remote.faults.next("move", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.lookup("folder")
        await world.rename("folder", "moved")
        while not [line for line in remote.methods() if line.startswith("move ")]:
            await trio.sleep(0.1)
        assert await world.tree() == {"/moved": None, "/moved/inside": b"content"}
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/moved": None, "/moved/inside": b"content"}


@pytest.mark.parametrize("theirs", ["moved", "removed"])
def test_a_move_from_a_folder_that_goes_meanwhile_is_given_up(tmp_path: Path, theirs: str) -> None:
    """It is tried again, and before the answer comes a listing shows that the folder it comes from is gone."""
    remote = FakeRemote()
    for path in ("/old", "/old/sub", "/new"):
        remote.other.mkdir(path)
    remote.other.write("/old/sub/inside", b"content")
    remote.faults.next("move", [FaultKind.REFUSE, FaultKind.SLOW])

    async def moves(number: int) -> None:
        while len([line for line in remote.methods() if line.startswith("move ")]) < number:
            await trio.sleep(0.01)

    async def story(world: World) -> None:
        await world.tree()
        await world.rename("old/sub", "new/sub")
        await moves(2)
        if theirs == "moved":
            remote.other.move("/old", "/new/old")
        else:
            remote.other.delete("/old")
        await world.refresh_all()
        await world.drain()
        await world.refresh_all()
        assert not world.engine.store.nodes.dirty()
        assert await world.tree() == remote.other.tree()

    tell(tmp_path, story, remote)


@pytest.mark.parametrize("there", ["/b2", "/f/b2"])
def test_a_save_by_rename_that_another_client_moves_before_it_is_found_out_stays_under_both_names(
    tmp_path: Path, there: str
) -> None:
    """A second copy, and no loss: after the answer there would be the moved one alone."""
    remote = stocked(FakeRemote)

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.next("put", [FaultKind.LOSE_REPLY])
        await save_by_rename(world)
        while not any(request.method == "put" for request in remote.log):
            await trio.sleep(0.1)
        remote.other.move("/a", there)
        assert not await world.drain()
        tree = remote.other.tree()
        assert tree["/a"] == tree[there] == b"saved"
        assert await world.tree() == tree

    tell(tmp_path, story, remote)
