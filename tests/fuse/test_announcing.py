"""What is announced, without a mount: only news, only where somebody watches, a move as one thing, and an end."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.fuse import announcing
from cloudfs.fuse.announcing import Act, Announcement, Announcer, Placed
from cloudfs.fuse.notify import KernelNotifier
from cloudfs.fuse.watchers import watched_inodes
from cloudfs.types import ROOT, Ino, Kind

UNSEEN, BESIDE = Ino(50), Ino(51)


class Kernel:
    """Hears of names; as far as the notifier is concerned."""

    def __init__(self) -> None:
        self.forgotten: list[bytes] = []

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:  # noqa: FBT002  # pyfuse3's
        """Ignore."""

    def invalidate_entry(self, inode_p: int, name: bytes) -> None:
        self.forgotten.append(name)


class Tree:
    def __init__(self) -> None:
        self.nodes: dict[Ino, Placed] = {}

    def add(self, ino: int, name: str, parent: Ino = ROOT, kind: Kind = Kind.FILE) -> Ino:
        self.nodes[Ino(ino)] = Placed(Ino(ino), parent, name, kind, 10, 10**9)
        return Ino(ino)

    def placed(self, ino: Ino) -> Placed | None:
        return self.nodes.get(ino)

    def child(self, parent: Ino, name: str) -> Placed | None:
        return next((it for it in self.nodes.values() if (it.parent, it.name) == (parent, name)), None)

    def path(self, ino: Ino) -> str | None:
        return {ROOT: "/", BESIDE: "/beside"}.get(ino)

    def was_listed(self, folder: Ino) -> bool:
        return folder != UNSEEN


class Bed:
    """An announcer whose system calls are noted instead of made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tree, self.kernel = Tree(), Kernel()
        self.watched = frozenset({ROOT})
        self.calls: list[Announcement] = []
        self.error: OSError | None = None
        self._changed = threading.Event()
        self.announcer = Announcer(KernelNotifier(self.kernel), watched=lambda _: self.watched)
        self._folder = folder
        monkeypatch.setattr(announcing, "_call", self._call)
        monkeypatch.setattr(announcing, "_MOVE_S", 0.3)

    def _call(self, announcement: Announcement, path: str, new: str | None, node: Placed | None) -> None:
        assert self.announcer.current == announcement
        assert self.announcer.thread_id == threading.get_native_id()
        parent = self.tree.path(announcement.parent)
        assert parent is not None
        assert path == f"{self._folder}{parent.rstrip('/')}/{announcement.name}"
        self.calls.append(announcement)
        self._changed.set()
        if self.error is not None:
            raise self.error

    async def calls_made(self, count: int) -> list[Announcement]:
        with trio.fail_after(10):
            while len(self.calls) < count:
                await trio.to_thread.run_sync(self._changed.wait, 0.05)
                self._changed.clear()
        return self.calls

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        self.announcer.attach(str(self._folder), self.tree)
        self.announcer.start()
        yield
        assert await trio.to_thread.run_sync(self.announcer.stop, 10)
        assert self.announcer.current is None


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(tmp_path, monkeypatch)


async def test_each_change_is_the_call_that_made_it(bed: Bed) -> None:
    async with bed.started():
        bed.tree.add(2, "made")
        bed.announcer.entry_changed(ROOT, "made")
        bed.announcer.entry_removed(ROOT, "gone", Ino(3), Kind.FOLDER)
        bed.tree.add(4, "written")
        bed.announcer.node_changed(Ino(4), content=True)
        bed.announcer.node_changed(Ino(4), content=False)
        calls = await bed.calls_made(4)
    assert [(it.act, it.name, it.kind) for it in calls] == [
        (Act.CREATE, "made", Kind.FILE),
        (Act.REMOVE, "gone", Kind.FOLDER),
        (Act.WRITE, "written", Kind.FILE),
        (Act.TOUCH, "written", Kind.FILE),
    ]
    assert {b"made", b"gone"} <= set(bed.kernel.forgotten), "or the kernel would answer our call by itself"


async def test_a_removal_and_something_new_of_one_inode_is_a_move(bed: Bed) -> None:
    async with bed.started():
        bed.announcer.entry_removed(ROOT, "before", Ino(2))
        bed.announcer.entry_removed(ROOT, "before", Ino(2))  # found to be gone, and then to be elsewhere
        bed.tree.add(2, "after", BESIDE)
        bed.announcer.entry_changed(BESIDE, "after")
        bed.announcer.entry_removed(ROOT, "last", Ino(3))
        call, _ = await bed.calls_made(2)
    assert (call.act, call.name, call.new) == (Act.RENAME, "before", (BESIDE, "after"))


async def test_what_nobody_watches_or_nobody_knew_is_not_told(bed: Bed) -> None:
    async with bed.started():
        bed.tree.add(2, "beside", BESIDE)
        bed.announcer.entry_changed(BESIDE, "beside")
        bed.tree.add(3, "first", UNSEEN)
        bed.announcer.entry_changed(UNSEEN, "first")
        bed.announcer.entry_changed(ROOT, "gone again")
        bed.tree.add(5, "folder", kind=Kind.FOLDER)
        bed.announcer.node_changed(Ino(5), content=False)
        bed.tree.add(4, "seen")
        bed.announcer.entry_changed(ROOT, "seen")
        calls = await bed.calls_made(1)
    assert [it.name for it in calls] == ["seen"]


async def test_a_file_that_is_watched_itself_is_told_of(bed: Bed) -> None:
    bed.watched = frozenset({Ino(2)})
    async with bed.started():
        bed.tree.add(2, "file")
        bed.announcer.node_changed(Ino(2), content=True)
        await bed.calls_made(1)


async def test_who_begins_to_watch_hears_of_what_comes_from_then_on(bed: Bed) -> None:
    """Also where somebody was looked for a moment before: a file manager that was not told then never asks again."""
    bed.watched = frozenset({BESIDE})
    async with bed.started():
        bed.tree.add(2, "beside", BESIDE)
        bed.announcer.node_changed(Ino(2), content=True)
        await bed.calls_made(1)
        bed.watched = frozenset({ROOT})
        bed.tree.add(3, "seen")
        bed.announcer.entry_changed(ROOT, "seen")
        calls = await bed.calls_made(2)
    assert calls[1].name == "seen"


async def test_a_call_that_fails_holds_up_nothing(bed: Bed) -> None:
    bed.error = FileExistsError("a program was there first")
    async with bed.started():
        for number in range(3):
            bed.announcer.entry_removed(ROOT, f"gone-{number}", Ino(10 + number))
        await bed.calls_made(3)
    assert bed.announcer.raised == 0


async def test_of_too_much_the_newest_is_told(bed: Bed) -> None:
    held, release = threading.Event(), threading.Event()

    def hold(_: int) -> frozenset[Ino]:
        held.set()
        release.wait()
        return bed.watched

    bed.announcer = Announcer(KernelNotifier(bed.kernel), watched=hold)
    async with bed.started():
        bed.announcer.entry_removed(ROOT, "before", Ino(9))
        await trio.to_thread.run_sync(held.wait)
        for number in range(announcing._MOST + 5):
            bed.announcer.entry_removed(ROOT, f"{number}", Ino(10 + number))
        release.set()
        calls = await bed.calls_made(2)
        assert [it.name for it in calls[:2]] == ["before", "5"]


async def test_the_end_waits_for_nothing_that_is_not_told_yet(bed: Bed) -> None:
    async with bed.started():
        for number in range(500):
            bed.announcer.entry_removed(ROOT, f"{number}", Ino(10 + number))
    assert len(bed.calls) < 500


async def test_without_a_tree_it_is_a_notifier(bed: Bed) -> None:
    bed.announcer.start()
    bed.announcer.entry_changed(ROOT, "name")
    await bed.announcer.delivered(Ino(2))
    with trio.fail_after(10):
        while not bed.kernel.forgotten:
            await trio.sleep(0.01)
    assert await trio.to_thread.run_sync(bed.announcer.stop, 10)
    assert bed.calls == []


def test_the_watched_inodes_of_one_file_system_are_found(tmp_path: Path) -> None:
    line = (
        "inotify wd:{} ino:{:x} sdev:{:x} mask:fce ignored_mask:0 fhandle-bytes:0 fhandle-type:0 f_handle:\n"
    )
    for process, descriptors in {"17": ["3"], "18": ["4", "5"], "self": ["3"]}.items():
        (tmp_path / process / "fd").mkdir(parents=True)
        (tmp_path / process / "fdinfo").mkdir()
        for descriptor in descriptors:
            kind = "anon_inode:inotify" if descriptor != "5" else "/some/file"
            (tmp_path / process / "fd" / descriptor).symlink_to(kind)
            ino = int(process if process.isdecimal() else "99") * 1000 + int(descriptor)
            text = "pos:\t0\nflags:\t00\n" + line.format(1, ino, 0x2F) + line.format(2, 7, 0x30)
            (tmp_path / process / "fdinfo" / descriptor).write_text(text)
    (tmp_path / "19").mkdir()  # another user's
    assert watched_inodes(os.makedev(0, 0x2F), tmp_path) == {17003, 18004}
    assert watched_inodes(os.makedev(0, 0x31), tmp_path) == frozenset()
