"""What the kernel's requests do when something goes wrong beside them: a full disk, another client, a stale name."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from cloudfs.errors import PosixError
from cloudfs.store import snapshot, store
from cloudfs.types import ROOT, Ino
from cloudfs.vfs.records import HandleId
from tests.model.fake_remote import FakeRemote
from tests.sync.mount import World, opened, tell

pytestmark = pytest.mark.expect_log("", optional=True)


def server(**files: bytes) -> FakeRemote:
    remote = FakeRemote()
    for name, content in files.items():
        remote.other.write(f"/{name}", content)
    return remote


@contextmanager
def full_disk(world: World) -> Iterator[None]:
    """Let no transaction be committed."""
    db = world.engine.store.db
    commit = db._commit

    def refuse() -> None:
        db._db.execute("ROLLBACK")
        raise PosixError(errno.ENOSPC, "the state database")

    db._commit = refuse  # type: ignore[method-assign]  # a fault
    try:
        yield
    finally:
        db._commit = commit  # type: ignore[method-assign]  # as above


# Closing


def test_a_handle_is_closed_also_when_its_bytes_cannot_be_kept(tmp_path: Path) -> None:
    """Else the file counts as open for ever: it is never sent, and never removed."""

    async def story(world: World) -> None:
        handle = await world.create("new")
        await world.write(handle, 0, b"1")
        with full_disk(world):
            with pytest.raises(PosixError):
                await world.fs.flush(handle)
            await world.fs.release(handle)
        world._errors.texts.clear()  # it is said in the log
        ino = (await world.lookup("new")).ino
        assert not world.engine.files.being_written(ino)
        assert world.engine.files.live(ino) is None
        await world.unlink("new")
        await world.drain()
        await world.check_nothing_left()

    tell(tmp_path, story)


@pytest.mark.parametrize("size", [0, 3])
def test_a_file_that_cannot_be_cut_keeps_its_bytes(tmp_path: Path, size: int) -> None:
    """A program that is told so has not lost what it saved before."""

    async def story(world: World) -> None:
        handle = await world.create("new")
        await world.write(handle, 0, b"0123456789")
        await world.fs.flush(handle)
        ino = (await world.lookup("new")).ino
        with full_disk(world), pytest.raises(PosixError):
            await world.fs.setattr(ino, size=size, handle=handle)
        assert await world.fs.read(handle, 0, 100) == b"0123456789"
        await world.fs.release(handle)
        await world.drain()
        assert world.remote.other.tree()["/new"] == b"0123456789"

    tell(tmp_path, story)


def test_a_failed_close_is_said_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        handle = await world.create("new")
        await world.write(handle, 0, b"1")
        with full_disk(world):
            await world.fs.release(handle)
        world._errors.texts.clear()

    tell(tmp_path, story)
    assert "could not be kept: No space left" in caplog.text


@pytest.mark.parametrize("call", ["unlink", "rename", "forget", "release"])
def test_no_call_waits_for_a_staging_file_to_go(tmp_path: Path, call: str) -> None:
    """What is done is answered; a disk that does not delete is a matter of the background."""

    async def story(world: World) -> None:
        await world.save("a", b"1")
        await world.save("b", b"2")
        staging = world.engine.files._staging
        delete = staging.delete

        async def broken(*_: object) -> None:
            raise PosixError(errno.EIO, "disk")

        staging.delete = broken  # type: ignore[method-assign,assignment]  # a fault
        if call in {"unlink", "rename"}:
            await world.forget()
            await (world.unlink("b") if call == "unlink" else world.rename("a", "b"))
        elif call == "forget":
            await world.unlink("a")
            await world.forget()
        else:
            await world.forget()
            handle = await world.open("a", os.O_RDONLY)
            await world.unlink("a")
            await world.forget()
            await world.fs.release(handle)
        assert ("a" in await names(world)) == (call == "unlink")
        await trio.sleep(30)
        world._errors.texts.clear()  # the background said so
        staging.delete = delete  # type: ignore[method-assign]  # as above
        await world.save("c", b"3")
        await world.unlink("c")  # the next time
        await trio.sleep(300)
        await world.drain()
        await world.check_nothing_left()

    tell(tmp_path, story)


async def names(world: World) -> set[str]:
    return {path.strip("/") for path in await world.tree()}


# Opening with O_CREAT


async def create(world: World, name: str, flags: int) -> tuple[HandleId, Ino]:
    got, attributes = await world.fs.create(ROOT, name.encode(), 0o644, flags | os.O_CREAT)
    world._remember(attributes.ino)
    return got.handle, attributes.ino


def test_a_name_made_elsewhere_meanwhile_is_opened(tmp_path: Path) -> None:
    """The kernel still believes, for a second, that there is none; programs do not expect EEXIST then."""

    async def story(world: World) -> None:
        there = await world.lookup("theirs")
        handle, ino = await create(world, "theirs", os.O_RDWR)
        assert ino == there.ino
        assert await world.read(handle) == b"content"
        await world.fs.release(handle)
        handle, _ = await create(world, "theirs", os.O_RDWR | os.O_TRUNC)
        assert await world.read(handle) == b""
        await world.fs.flush(handle)
        await world.fs.release(handle)
        await world.drain()

    assert tell(tmp_path, story, server(theirs=b"content")).other.tree() == {"/theirs": b""}


def test_o_excl_and_folders_are_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.mkdir("folder")
        for name, flags, code in [
            ("theirs", os.O_EXCL, errno.EEXIST),
            ("folder", os.O_EXCL, errno.EEXIST),
            ("folder", 0, errno.EISDIR),
        ]:
            with pytest.raises(PosixError) as caught:
                await create(world, name, os.O_WRONLY | flags)
            assert caught.value.errno == code, name
        await world.drain()

    tell(tmp_path, story, server(theirs=b"content"))


# Names that the kernel has and that mean nothing any more


@pytest.mark.parametrize("content", [b"", b"content"])
def test_a_file_that_is_gone_cannot_be_opened_by_its_old_name(tmp_path: Path, content: bytes) -> None:
    """ESTALE has the kernel look the name up again; taken, the bytes would vanish with the handle."""

    async def story(world: World) -> None:
        old = await world.lookup("f")
        world.remote.other.delete("/f")
        await world.engine.lister.refresh(ROOT)
        for flags in (os.O_WRONLY, os.O_RDONLY, os.O_RDWR | os.O_TRUNC):
            with pytest.raises(PosixError) as caught:
                await world.fs.open(old.ino, flags)
            assert caught.value.errno == errno.ESTALE
        with pytest.raises(PosixError) as caught:
            await world.fs.setattr(old.ino, size=100)
        assert caught.value.errno == errno.ESTALE
        await world.check_nothing_left()

    tell(tmp_path, story, server(f=content))


def test_an_open_file_that_lost_its_name_can_be_opened_again(tmp_path: Path) -> None:
    """As by /proc/self/fd: whoever has it open keeps it alive, unlinked here or replaced there."""

    async def story(world: World) -> None:
        async with opened(world, "f") as first:
            ino = (await world.lookup("f")).ino
            await world.unlink("f")
            second = (await world.fs.open(ino, os.O_RDWR)).handle
            await world.write(second, 0, b"X")
            await world.fs.setattr(ino, size=3)
            assert await world.read(first) == b"Xon"
            await world.fs.release(second)
        assert await world.tree() == {}
        await world.drain()
        await world.check_nothing_left()

    tell(tmp_path, story, server(f=b"content"))


# The kernel's pages


async def keeps(world: World, path: str, flags: int = os.O_RDONLY) -> bool:
    """Open, read and close, as a program does; tell whether the kernel was let go on with the pages that it has."""
    got = await world.fs.open((await world.lookup(path)).ino, flags)
    if flags & os.O_ACCMODE != os.O_WRONLY:
        await world.read(got.handle)
    await world.fs.flush(got.handle)
    await world.fs.release(got.handle)
    return got.keep_cache


def test_pages_of_the_version_that_the_kernel_has_are_kept(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert not await keeps(world, "f")  # it has none yet
        assert await keeps(world, "f")
        await world.refresh_all()
        assert await keeps(world, "f")
        await world.forget()
        assert not await keeps(world, "f")

    tell(tmp_path, story, server(f=b"content"))


@pytest.mark.parametrize("content", [b"another", b"longer than it was", b""])
def test_pages_are_dropped_with_another_clients_version(tmp_path: Path, content: bytes) -> None:
    """Kept, they would be served for ever: the kernel does not ask for what it has."""

    async def story(world: World) -> None:
        await keeps(world, "f")
        assert await keeps(world, "f")
        known = await world.lookup("f")
        await trio.sleep(10)
        world.remote.other.write("/f", content)
        await world.refresh_all()
        assert (await world.lookup("f")).ino == known.ino  # else there would be nothing to drop
        assert not await keeps(world, "f")
        assert await keeps(world, "f")

    tell(tmp_path, story, server(f=b"content"))


def test_pages_of_what_was_written_here_are_kept(tmp_path: Path) -> None:
    """They went through the kernel's pages, and on the server they are the same."""

    async def story(world: World) -> None:
        await keeps(world, "f")
        async with opened(world, "f") as handle:
            await world.write(handle, 0, b"C")
        assert await keeps(world, "f")
        await world.drain()
        await world.refresh_all()
        assert await keeps(world, "f")

    tell(tmp_path, story, server(f=b"content"))


def test_pages_are_dropped_where_a_file_is_cut_as_it_is_opened(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await keeps(world, "f")
        assert not await keeps(world, "f", os.O_WRONLY | os.O_TRUNC)
        assert await keeps(world, "f")
        await world.drain()

    tell(tmp_path, story, server(f=b"content"))


def test_the_roots_time_is_that_of_the_first_mount_until_the_server_tells_its_own(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.fs.getattr(ROOT)).mtime_ns > 10**18  # not 1970

    tell(tmp_path, story)


# Folders


def test_a_large_folder_s_members_are_found_in_slices_and_are_those_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_AT_ONCE", 5)
    monkeypatch.setattr(snapshot, "_SHORT", 2)

    async def story(world: World) -> None:
        handle = await world.fs.open_folder(ROOT)
        with trio.testing.assert_checkpoints():
            found = await world.fs.read_folder(handle, 0)
        assert [entry.name for entry in found] == list("abcdefg")
        assert [entry.name for entry in await world.fs.read_folder(handle, 3)] == list("defg")
        await world.fs.release_folder(handle)

    tell(tmp_path, story, server(**dict.fromkeys("abcdefg", b"1")))


def test_a_folder_s_members_are_read_once_for_a_program_that_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large folder that is a tenth of a second in which nothing else goes on."""

    async def story(world: World) -> None:
        nodes, reads = world.engine.store.nodes, list[int]()
        child_inos = nodes.child_inos

        def counted(ino: Ino, most: int = -1) -> array[int]:
            reads.append(ino)
            return child_inos(ino, most)

        monkeypatch.setattr(nodes, "child_inos", counted)
        handle = await world.fs.open_folder(ROOT)
        assert [entry.name for entry in await world.fs.read_folder(handle, 0)] == ["a", "b"]
        assert [entry.name for entry in await world.fs.read_folder(handle, 1)] == ["b"]
        assert reads == [ROOT]
        await world.save("c", b"3")
        assert [entry.name for entry in await world.fs.read_folder(handle, 2)] == []
        assert [entry.name for entry in await world.fs.read_folder(handle, 0)] == ["a", "b", "c"]
        await world.fs.release_folder(handle)
        late = await world.fs.open_folder(ROOT)
        assert [entry.name for entry in await world.fs.read_folder(late, 1)] == ["b", "c"]
        await world.fs.release_folder(late)
        await world.drain()

    tell(tmp_path, story, server(a=b"1", b=b"2"))
