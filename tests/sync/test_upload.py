"""Sending a content: exactly once, onto exactly what it was made from, and nothing is ever lost on the way."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from cloudfs.blocks.staging import StagedFile
from cloudfs.content.layers import FileContent, Layer
from cloudfs.content.source import Source
from cloudfs.errors import PosixError, Unreachable
from cloudfs.remote.dialect import EARLIEST_MTIME_S
from cloudfs.remote.protocol import Features
from cloudfs.sync.delivery import MUCH_BYTES
from cloudfs.types import ROOT, ContentVersion, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion
from tests.model.fake_remote import NEXTCLOUD, FakeRemote, FaultKind
from tests.sync.mount import World, opened, tell


def puts(remote: FakeRemote) -> list[str]:
    return [line for line in remote.methods() if line.startswith("put ")]


def copies(tree: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {path: content for path, content in tree.items() if "conflicted copy" in path}


async def both_survive(world: World, ours: bytes, theirs: bytes, name: str = "/a") -> None:
    """The server's version has the name, ours stands beside it, and both are in both trees."""
    await world.drain()
    await world.refresh_all()
    for tree in (world.remote.other.tree(), await world.tree()):
        assert tree[name] == theirs
        assert list(copies(tree).values()) == [ours]


def with_file(content: bytes = b"base", mtime_s: int | None = None) -> FakeRemote:
    remote = FakeRemote()
    checksum = f"SHA1:{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"
    remote.other.write("/a", content, mtime_s=mtime_s, checksum=checksum)
    return remote


# New files


@pytest.mark.parametrize("content", [b"", b"x", b"y" * 3_000_000], ids=["empty", "one byte", "three blocks"])
def test_a_new_file_goes_up_once_with_its_checksum_and_time(tmp_path: Path, content: bytes) -> None:
    async def story(world: World) -> None:
        await world.save("a", content)
        await world.drain()
        (shown,) = (await world.walk()).attributes.values()
        assert world.remote.other.mtime_s("/a") == shown.mtime_ns // 10**9

    remote = tell(tmp_path, story)
    assert remote.other.tree() == {"/a": content}
    assert puts(remote) == ["put /a"]
    assert remote.other.checksum("/a") == f"SHA1:{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"


def test_a_file_emptied_here_is_empty_there(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"")
        await world.drain()

    assert tell(tmp_path, story, with_file()).other.tree() == {"/a": b""}


def test_a_changed_byte_in_a_large_file_keeps_all_the_others(tmp_path: Path) -> None:
    content = os.urandom(2_500_000)

    async def story(world: World) -> None:
        async with opened(world, "a") as handle:
            await world.write(handle, 1_234_567, b"!")
        await world.drain()

    remote = tell(tmp_path, story, with_file(content))
    assert remote.other.read("/a") == content[:1_234_567] + b"!" + content[1_234_568:]


@pytest.mark.expect_log("could not be deleted: No space left on device")
def test_what_a_full_disk_keeps_of_a_sent_file_goes_once_there_is_room(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        store = world.engine.store
        delete, failures = store.delete_staged, [None] * 3

        def full(ino: Ino, version: ContentVersion) -> None:
            if failures:
                failures.pop()
                raise PosixError(errno.ENOSPC, "the state database")
            delete(ino, version)

        store.delete_staged = full  # type: ignore[method-assign]
        await world.save("a", b"x" * 1000)
        await world.drain()
        await trio.sleep(120)
        assert not store.all_staged()
        assert not list(world.staging.iterdir())

    tell(tmp_path, story)


# Lost replies


@pytest.mark.parametrize("start", [FakeRemote, with_file], ids=["new", "over a base"])
def test_a_lost_reply_is_no_conflict(tmp_path: Path, start: Callable[[], FakeRemote]) -> None:
    remote = start()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", b"ours")
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"ours"}
    # It is looked for before it is sent again.
    assert len(puts(remote)) == 1


MUCH = bytes(MUCH_BYTES)


def test_much_that_arrived_is_not_sent_again(tmp_path: Path) -> None:
    """The server puts a large file together although its client is gone; its pieces are gone, too, by then."""
    remote = with_file()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", MUCH)
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": MUCH}
    assert remote.sent_bytes == MUCH_BYTES


def test_much_that_is_tried_again_is_looked_for_once(tmp_path: Path) -> None:
    remote = with_file()
    remote.faults.next("put", [FaultKind.FAULT])

    async def story(world: World) -> None:
        await world.walk()
        await trio.sleep(10)
        await world.refresh_all()
        remote.log.clear()
        await world.save("a", MUCH)
        await world.drain()

    tell(tmp_path, story, remote, poll_s=0)
    assert remote.other.tree() == {"/a": MUCH}
    assert [it for it in remote.methods() if it.endswith(" /a")] == ["stat /a", "put /a", "stat /a", "put /a"]


def test_much_that_is_in_conflict_is_sent_once(tmp_path: Path) -> None:
    """A large file is refused only when all of it was sent."""
    remote = with_file()

    async def story(world: World) -> None:
        await world.read_file("a")
        world.remote.other.write("/a", b"theirs")
        await world.save("a", MUCH)
        await both_survive(world, MUCH, b"theirs")

    tell(tmp_path, story, remote)
    assert remote.sent_bytes == MUCH_BYTES


def test_a_size_that_grows_with_the_pieces_is_nobody_s_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As S3 lists what a large file goes over, while it does: `remote/pieces.py`."""
    remote = with_file()
    entry, members = remote.account.entry, remote.account.members
    grows = True

    def grown(it: RemoteEntry) -> RemoteEntry:
        if not grows or it.kind is Kind.FOLDER:
            return it
        version = msgspec.structs.replace(it.version, size=it.version.size + 1000)
        return msgspec.structs.replace(it, version=version)

    monkeypatch.setattr(remote.account, "entry", lambda path: grown(entry(path)))
    monkeypatch.setattr(remote.account, "members", lambda path: list(map(grown, members(path))))

    async def story(world: World) -> None:
        nonlocal grows
        grows = False
        await world.read_file("a")
        remote.faults.next("put", [FaultKind.CUT])
        await world.save("a", b"ours")
        grows = True
        await world.refresh_all()
        await world.drain()
        grows = False
        await world.refresh_all()
        assert await world.tree() == {"/a": b"ours"}

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"ours"}


@pytest.mark.parametrize("start", [FakeRemote, with_file], ids=["new", "over a base"])
def test_a_file_rewritten_after_a_lost_reply_is_no_conflict(
    tmp_path: Path, start: Callable[[], FakeRemote]
) -> None:
    remote = start()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", b"first")
        while not puts(remote):
            await trio.sleep(0.1)
        await world.save("a", b"second")
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"second"}


@pytest.mark.parametrize("killed", [False, True])
def test_the_bytes_of_an_overwrite_whose_reply_was_lost_are_not_sent_again(
    tmp_path: Path, killed: bool
) -> None:
    """A large one goes in pieces, and its condition is looked at only when all of them are there."""

    async def story(world: World) -> None:
        await world.walk()
        await world.save("a", b"x" * 200_000)
        world.remote.faults.next("put", [FaultKind.LOSE_REPLY])
        if killed:
            await trio.sleep(1.5)
            await world.kill()
        await world.drain()
        assert world.remote.sent_bytes == 200_000

    remote = tell(tmp_path, story, with_file())
    assert remote.other.tree() == {"/a": b"x" * 200_000}


def test_the_bytes_of_a_conflict_that_was_listed_are_sent_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.walk()
        async with opened(world, "a", os.O_RDWR) as handle:
            await world.write(handle, 0, b"x" * 200_000)
            world.remote.other.write("/a", b"theirs")
            await world.refresh_all()
        await both_survive(world, b"x" * 200_000, b"theirs")
        assert world.remote.sent_bytes == 200_000

    tell(tmp_path, story, with_file())


def test_a_lost_reply_survives_a_kill(tmp_path: Path) -> None:
    remote = with_file()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", b"first")
        while not puts(remote):
            await trio.sleep(0.1)
        await world.save("a", b"second")
        await world.restart()
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"second"}


def test_what_another_client_wrote_after_a_lost_reply_is_a_conflict(tmp_path: Path) -> None:
    remote = with_file()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])

    async def story(world: World) -> None:
        await world.save("a", b"ours")
        while not puts(remote):
            await trio.sleep(0.1)
        await trio.sleep(0.2)
        remote.other.write("/a", b"theirs")
        await both_survive(world, b"ours", b"theirs")

    tell(tmp_path, story, remote)


def test_a_rewrite_after_a_lost_reply_does_not_share_the_etag_of_what_was_sent_before(tmp_path: Path) -> None:
    """Same size, same second (protocol.md §3.2): other clients would never see the second content."""
    remote = with_file()
    remote.faults.next("put", [FaultKind.LOSE_REPLY])
    seen: list[str] = []

    async def story(world: World) -> None:
        await world.save("a", b"first!")
        moment_ns = (await world.lookup("a")).mtime_ns
        while not puts(remote):
            await trio.sleep(0.1)
        await trio.sleep(0.2)
        seen.append(remote.account.entry(RemotePath("/a")).version.etag)
        await world.save("a", b"second")
        await world.fs.setattr((await world.lookup("a")).ino, mtime_ns=moment_ns)
        await world.drain()
        seen.append(remote.account.entry(RemotePath("/a")).version.etag)

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"second"}
    assert seen[0] != seen[1]


# Other clients


def test_the_same_content_from_another_client_is_no_conflict(tmp_path: Path) -> None:
    remote = with_file()

    async def story(world: World) -> None:
        await world.read_file("a")
        await world.save("a", b"same")
        remote.other.write("/a", b"same")  # without a checksum: it has to be read to know
        await world.drain()
        assert copies(await world.tree()) == {}

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"same"}


def test_the_same_new_file_from_another_client_is_no_conflict(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"same")
        world.remote.other.write("/a", b"same")
        await world.drain()

    assert tell(tmp_path, story).other.tree() == {"/a": b"same"}


def test_another_content_under_ours_is_a_conflict_and_both_survive(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.save("a", b"ours")
        world.remote.other.write("/a", b"theirs")
        await both_survive(world, b"ours", b"theirs")
        (conflict,) = world.engine.store.conflicts()
        assert conflict.theirs == (await world.lookup("a")).ino

    tell(tmp_path, story, with_file(mtime_s=1_600_000_000))


def test_a_new_file_that_another_client_made_too_is_a_conflict_and_both_survive(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"ours")
        world.remote.other.write("/a", b"theirs")
        await both_survive(world, b"ours", b"theirs")

    tell(tmp_path, story)


def test_a_save_by_rename_over_a_file_that_changed_there_is_a_conflict_and_both_survive(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.save("t", b"ours")
        await world.rename("t", "a")
        world.remote.other.write("/a", b"theirs")
        await world.drain()
        # Both are there at once, not only after the next listing.
        assert (await world.tree())["/a"] == b"theirs"
        (conflict,) = world.engine.store.conflicts()
        assert conflict.theirs == (await world.lookup("a")).ino
        await both_survive(world, b"ours", b"theirs")

    tell(tmp_path, story, with_file(mtime_s=1_600_000_000))


def test_a_folder_that_another_client_made_in_the_place_of_a_new_file_leaves_both(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.save("a", b"ours")
        world.remote.other.mkdir("/a")
        world.remote.other.write("/a/x", b"theirs")
        await both_survive(world, b"ours", b"theirs", "/a/x")

    tell(tmp_path, story)


def test_an_empty_file_is_no_folder(tmp_path: Path) -> None:
    """Both have no bytes; that does not make them the same."""

    async def story(world: World) -> None:
        await world.save("a", b"")
        world.remote.other.mkdir("/a")
        world.remote.other.write("/a/x", b"theirs")
        await both_survive(world, b"", b"theirs", "/a/x")

    tell(tmp_path, story)


def test_a_file_deleted_there_and_changed_here_is_made_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.read_file("a")
        await world.save("a", b"ours")
        world.remote.other.delete("/a")
        await world.drain()
        assert await world.tree() == {"/a": b"ours"}

    assert tell(tmp_path, story, with_file()).other.tree() == {"/a": b"ours"}


def test_a_folder_deleted_there_is_made_again_for_a_file_changed_here(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.other.mkdir("/d")
    remote.other.mkdir("/d/e")
    remote.other.write("/d/e/a", b"base")
    remote.other.write("/d/b", b"clean")

    async def story(world: World) -> None:
        await world.tree()
        await world.save("d/e/a", b"ours")
        world.remote.other.delete("/d")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/d": None, "/d/e": None, "/d/e/a": b"ours"}

    assert tell(tmp_path, story, remote).other.tree() == {"/d": None, "/d/e": None, "/d/e/a": b"ours"}


# Times


@pytest.mark.parametrize(
    ("here_s", "told_s"),
    [(1_600_000_000, 1_600_000_001), (0, 86402)],
    ids=["one time", "before what is taken"],
)
def test_a_content_of_one_size_and_second_with_its_base_gets_another_etag(
    tmp_path: Path, here_s: int, told_s: int
) -> None:
    """Else nobody could tell the two apart (protocol.md §3.2): the time that is sent is one second later."""
    remote = with_file(b"base", mtime_s=max(here_s, EARLIEST_MTIME_S))
    before = remote.account.entry(RemotePath("/a")).version

    async def story(world: World) -> None:
        await world.read_file("a")
        await world.save("a", b"ours")
        await world.fs.setattr((await world.lookup("a")).ino, mtime_ns=here_s * 10**9)
        await world.drain()
        await world.refresh_all()
        # Here the program's own time stays.
        assert (await world.lookup("a")).mtime_ns == here_s * 10**9

    tell(tmp_path, story, remote)
    after = remote.account.entry(RemotePath("/a")).version
    assert remote.other.mtime_s("/a") == told_s
    assert after.etag != before.etag


def test_a_server_that_keeps_no_times_and_no_checksums_is_served_as_well(tmp_path: Path) -> None:
    remote = FakeRemote(features=Features(name="plain"))
    assert remote.features != NEXTCLOUD

    async def story(world: World) -> None:
        await world.save("a", b"one")
        await world.drain()
        await trio.sleep(3)
        await world.save("a", b"two")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/a": b"two"}

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"two"}
    assert len(puts(remote)) == 2


# Changes while it is on its way


def test_what_is_written_during_an_upload_goes_up_in_a_second_one_and_is_never_torn(tmp_path: Path) -> None:
    remote = FakeRemote()
    remote.faults.next("put", [FaultKind.SLOW])
    one, two = b"1" * 3_000_000, b"2" * 3_000_000
    versions: set[bytes] = set()

    async def story(world: World) -> None:
        await world.save("a", one)
        while not puts(remote):
            await trio.sleep(0.1)
        async with opened(world, "a") as handle:
            for start in range(0, len(two), 1_000_000):
                await world.write(handle, start, two[start : start + 1_000_000])
                await trio.sleep(1.5)
                if remote.other.exists("/a"):
                    versions.add(remote.other.read("/a"))
        await world.drain()
        versions.add(remote.other.read("/a"))
        assert await world.read_file("a") == two

    tell(tmp_path, story, remote)
    assert versions == {one, two}
    assert len(puts(remote)) == 2


@pytest.mark.parametrize("what", ["renamed", "deleted", "replaced"])
def test_a_file_that_goes_elsewhere_during_its_upload_ends_where_it_went(tmp_path: Path, what: str) -> None:
    remote = FakeRemote()
    remote.faults.next("put", [FaultKind.SLOW])
    expected: dict[str, dict[str, bytes | None]] = {
        "renamed": {"/b": b"ours"},
        "deleted": {},
        "replaced": {"/a": b"newer"},
    }

    async def story(world: World) -> None:
        await world.save("a", b"ours")
        while not puts(remote):
            await trio.sleep(0.1)
        if what == "renamed":
            await world.rename("a", "b")
        elif what == "deleted":
            await world.unlink("a")
        else:
            await world.save("t", b"newer")
            await world.rename("t", "a")
        await world.drain()
        assert await world.tree() == expected[what]
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == expected[what]


def test_an_upload_that_fails_for_a_deleted_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """While it ran it held the file: nobody else was left to clear it away."""
    remote = FakeRemote(latency_s=5)
    remote.faults.next("put", [FaultKind.CUT])

    async def story(world: World) -> None:
        await world.save("a", b"ours")
        while not puts(remote):
            await trio.sleep(0.1)
        await world.unlink("a")
        await world.forget()
        await trio.sleep(60)
        assert world.engine.store.nodes.orphans() == []
        assert world.engine.store.all_staged() == []
        await world.save("b", b"")  # files are deleted when somebody has time
        await world.drain()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/b": b""}


# Saves by rename


def test_an_atomic_save_keeps_the_old_file_id(tmp_path: Path) -> None:
    remote = with_file()
    before = remote.other.file_id("/a")

    async def story(world: World) -> None:
        await world.save("t", b"ours")
        await world.rename("t", "a")
        await world.drain()
        assert await world.tree() == {"/a": b"ours"}
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"ours"}
    assert remote.other.file_id("/a") == before
    assert puts(remote) == ["put /a"]


def test_a_local_backup_made_by_a_save_keeps_its_bytes(tmp_path: Path) -> None:
    """As Emacs saves: `mv a a~`, then a anew. The backup stays here alone, and nobody had read it before."""
    remote = with_file(b"the only copy of the old text")

    async def story(world: World) -> None:
        await world.rename("a", "a~")
        await world.save("a", b"new text")
        await world.drain()
        await world.refresh_all()
        assert await world.tree() == {"/a": b"new text", "/a~": b"the only copy of the old text"}

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"new text"}


def test_who_has_the_old_file_open_goes_on_reading_it_after_an_atomic_save(tmp_path: Path) -> None:
    remote = with_file(b"old" * 1_000_000)

    async def story(world: World) -> None:
        async with opened(world, "a", os.O_RDONLY) as handle:
            await world.save("t", b"new")
            await world.rename("t", "a")
            await world.drain()
            assert remote.other.tree() == {"/a": b"new"}
            assert await world.read(handle) == b"old" * 1_000_000

    tell(tmp_path, story, remote)


@dataclass
class Withholding(FakeRemote):
    """Answers no download before it is told to, and then breaks each one off until it is told that that will do."""

    asked: trio.Event = field(default_factory=trio.Event)
    answers: trio.Event = field(default_factory=trio.Event)
    mended: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if not self.mended.is_set():
            self.asked.set()
            await self.answers.wait()
            raise Unreachable("the line is down", subject=path)
        async with super().stream(path, start, stop, expect) as chunks:
            yield chunks


def test_what_is_written_just_when_a_file_could_not_be_kept_here_goes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file gets a local name, and its bytes, on their way, do not come; a program begins to write at that moment."""
    remote = Withholding()
    remote.other.write("/a", b"the only copy")

    async def story(world: World) -> None:
        files = world.engine.files
        create, withdraw = files._staging.create, files.withdraw

        async def late(ino: Ino, version: ContentVersion) -> StagedFile:
            """The disk takes its time; meanwhile the download fails."""
            remote.answers.set()
            await remote.mended.wait()
            return await create(ino, version)

        def failed(content: FileContent, layer: Layer, base: Source) -> None:
            withdraw(content, layer, base)
            remote.mended.set()

        monkeypatch.setattr(files, "withdraw", failed)
        await world.rename("a", "a~")
        await remote.asked.wait()
        async with opened(world, "a~") as handle:
            with monkeypatch.context() as patch:
                patch.setattr(files._staging, "create", late)
                await world.write(handle, 0, b"NEW")
        await world.drain()
        assert await world.tree() == {"/a~": b"NEW only copy"}
        await world.rename("a~", "b")
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/b": b"NEW only copy"}


def test_a_file_written_as_it_was_shows_what_another_client_wrote_meanwhile(tmp_path: Path) -> None:
    """As `rsync` and `git` do. Nothing of it is to be sent, and its folder was listed already."""
    remote = with_file()

    async def story(world: World) -> None:
        before = await world.lookup("a")
        async with opened(world, "a") as handle:
            await world.write(handle, 0, b"base")
            remote.other.write("/a", b"theirs")
            await world.engine.lister.refresh(ROOT)
        await world.fs.setattr(before.ino, mtime_ns=before.mtime_ns)
        await world.drain()
        await trio.sleep(100)  # the watch looks every 30 s
        assert await world.tree() == {"/a": b"theirs"}

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"theirs"}


# Refusals


@pytest.mark.parametrize("kind", [FaultKind.REFUSE, FaultKind.LOCKED, FaultKind.FAULT, FaultKind.UNAVAILABLE])
def test_a_failed_upload_is_tried_until_it_succeeds(tmp_path: Path, kind: FaultKind) -> None:
    remote = with_file()
    remote.faults.next("put", [kind] * 5)

    async def story(world: World) -> None:
        await world.save("a", b"ours")
        await world.drain()
        await world.check_nothing_left()

    tell(tmp_path, story, remote)
    assert remote.other.tree() == {"/a": b"ours"}
    assert len(puts(remote)) == 6


def test_a_cut_overwrite_is_mended_by_the_next_try(tmp_path: Path) -> None:
    """An overwrite is not atomic on the server (protocol.md, rule 6): what is left of it is no other client's."""
    remote = with_file(b"base" * 1000)
    remote.truncating = True
    remote.faults.next("put", [FaultKind.CUT])

    async def story(world: World) -> None:
        await world.save("a", b"ours" * 1000)
        await world.drain()

    tell(tmp_path, story, remote)
    assert remote.other.tree()["/a"] == b"ours" * 1000
