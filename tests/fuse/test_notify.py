"""The queue of invalidations: coalescing, bounded, never blocking the loop, never hanging at the end."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudfs.fuse.notify import KernelNotifier
from cloudfs.types import ROOT, Ino
from tests.fuse.conftest import Serve
from tests.fuse.test_operations import wait_for


class Kernel:
    """Remembers the calls; the gate lets a test hold the first one up."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: OSError | None = None

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:  # noqa: FBT002
        self._take("inode", inode, attr_only)

    def invalidate_entry(self, inode_p: int, name: bytes) -> None:
        self._take("entry", inode_p, name)

    def _take(self, *call: object) -> None:
        self.calls.append(call)
        self.gate.wait(20)
        if self.error:
            raise self.error


def held(limit: int = 1000) -> tuple[Kernel, KernelNotifier]:
    """Return a notifier whose thread is busy with a first call until the gate opens."""
    kernel = Kernel()
    kernel.gate.clear()
    notifier = KernelNotifier(kernel, limit=limit)
    notifier.start()
    notifier.node_changed(ROOT, content=False)
    wait_for(lambda: len(kernel.calls) == 1)
    return kernel, notifier


def finish(kernel: Kernel, notifier: KernelNotifier) -> list[tuple[object, ...]]:
    kernel.gate.set()
    wait_for(lambda: notifier.statistics().waiting == 0)
    assert notifier.stop(5)
    return kernel.calls[1:]


def test_changes_reach_the_kernel() -> None:
    kernel, notifier = held()
    notifier.entry_changed(ROOT, "a")
    notifier.entry_removed(Ino(2), "b", Ino(7))
    notifier.node_changed(Ino(9), content=True)
    assert finish(kernel, notifier) == [
        ("inode", 9, False),
        ("entry", 1, b"a"),
        ("entry", 2, b"b"),
    ]


def test_repeated_changes_are_one_call_and_contents_are_not_lost() -> None:
    kernel, notifier = held()
    for content in (False, True, False):
        notifier.node_changed(Ino(5), content=content)
    notifier.entry_removed(ROOT, "a", Ino(5))
    notifier.entry_changed(ROOT, "a")
    assert finish(kernel, notifier) == [("inode", 5, False), ("entry", 1, b"a")]


def test_names_with_accents_are_dropped_in_both_spellings() -> None:
    kernel, notifier = held()
    notifier.entry_changed(ROOT, "é")
    assert finish(kernel, notifier) == [("entry", 1, b"\xc3\xa9"), ("entry", 1, b"e\xcc\x81")]


PLACES = {Ino(2): (ROOT, "two"), Ino(3): (ROOT, "three"), Ino(4): (Ino(3), "four")}


def test_where_too_many_names_wait_their_folders_are_forgotten() -> None:
    kernel, notifier = held(limit=6)
    notifier.place = PLACES.get
    for number in range(4):
        notifier.entry_changed(Ino(2), f"n{number}")
        notifier.entry_removed(Ino(4), f"n{number}", Ino(9))
    notifier.entry_changed(ROOT, "other")
    assert finish(kernel, notifier) == [
        ("entry", 1, b"two"),
        ("entry", 3, b"four"),
        ("entry", 4, b"n3"),
        ("entry", 1, b"other"),
    ]
    assert notifier.statistics().dropped == 0


def test_folders_stand_for_folders_where_those_are_too_many() -> None:
    kernel, notifier = held(limit=40)
    places = PLACES | {Ino(number): (Ino(4), f"f{number}") for number in range(100, 200)}
    notifier.place = places.get
    for number in range(100, 200):
        notifier.entry_changed(Ino(number), "name")
        assert notifier.statistics().waiting <= 40
    assert notifier.statistics().dropped == 0
    calls = finish(kernel, notifier)
    # Whatever stands for it, nothing is missing.
    left = {parent for _, parent, *_ in calls}
    forgotten = {ino for ino, (parent, name) in places.items() if ("entry", parent, name.encode()) in calls}
    for number in range(100, 200):
        above = {Ino(number), Ino(4), Ino(3)}
        assert above & forgotten or number in left


def test_what_nothing_stands_for_is_dropped_in_the_end_and_that_is_said_once(
    expect_log: Callable[..., None],
) -> None:
    expect_log("changes wait for the kernel")
    kernel, notifier = held(limit=3)
    for number in range(5):
        notifier.entry_changed(ROOT, f"n{number}")
    for number in range(31):
        notifier.node_changed(Ino(100 + number), content=True)
    assert notifier.statistics().dropped == 3
    assert finish(kernel, notifier) == [
        *(("inode", 100 + number, False) for number in range(1, 31)),
        *(("entry", 1, name) for name in (b"n2", b"n3", b"n4")),
    ]


@pytest.mark.mount
@pytest.mark.parametrize("is_used", [True, False])
def test_a_folder_that_is_forgotten_takes_all_below_it_along(
    serve: Serve, mount_point: Path, is_used: bool
) -> None:
    """Also which names do not exist, and also where a program has the folder open."""
    server = serve("--caching", "300")
    folder = mount_point / "docs"
    number, deep = folder.stat().st_ino, folder / "deep.txt"
    handle = os.open(folder, os.O_RDONLY) if is_used else None
    assert not (folder / "new").exists()
    server.command("grow", deep.stat().st_ino, "deeper")
    server.command("add", number, "new", "new")
    assert deep.stat().st_size == 4
    assert not (folder / "new").exists()
    server.announce("entry_changed", ROOT, "docs")
    wait_for(lambda: server.state()["notifications"]["sent"] == 1)
    assert deep.stat().st_size == 6
    assert (folder / "new").exists()
    if handle is not None:
        os.close(handle)


def test_what_the_kernel_does_not_know_is_no_error() -> None:
    kernel, notifier = held()
    kernel.error = OSError(errno.ENOENT, "unknown")
    notifier.entry_changed(ROOT, "a")
    finish(kernel, notifier)
    assert notifier.statistics().unknown == notifier.statistics().sent == 2


def test_before_the_start_and_after_the_end_nothing_is_kept() -> None:
    kernel = Kernel()
    notifier = KernelNotifier(kernel)
    notifier.node_changed(ROOT, content=True)
    notifier.start()
    assert notifier.stop(5)
    notifier.entry_changed(ROOT, "a")
    assert notifier.statistics().waiting == 0
    assert kernel.calls == []


def test_a_call_that_hangs_in_the_kernel_is_abandoned() -> None:
    kernel, notifier = held()
    begun = time.monotonic()
    assert not notifier.stop(0.1)
    assert time.monotonic() - begun < 2
    kernel.gate.set()


def test_announcing_never_waits() -> None:
    kernel, notifier = held(limit=100_000)
    begun = time.monotonic()
    for number in range(20_000):
        notifier.entry_changed(ROOT, str(number))
    assert time.monotonic() - begun < 2
    kernel.gate.set()
    assert notifier.stop(5)


@pytest.mark.parametrize("content", [True, False])
def test_attributes_alone_leave_the_pages(content: bool) -> None:
    kernel, notifier = held()
    notifier.node_changed(Ino(3), content=content)
    assert finish(kernel, notifier) == [("inode", 3, not content)]
