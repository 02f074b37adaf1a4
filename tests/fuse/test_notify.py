"""The queue of invalidations: coalescing, bounded, never blocking the loop, never hanging at the end."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from cloudfs.fuse.notify import KernelNotifier
from cloudfs.types import ROOT, Ino
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

    def invalidate_entry(self, inode_p: int, name: bytes, deleted: int = 0) -> None:
        self._take("entry", inode_p, name, deleted)

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
        ("entry", 1, b"a", 0),
        ("entry", 2, b"b", 7),
    ]


def test_repeated_changes_are_one_call_and_contents_are_not_lost() -> None:
    kernel, notifier = held()
    for content in (False, True, False):
        notifier.node_changed(Ino(5), content=content)
    notifier.entry_removed(ROOT, "a", Ino(5))
    notifier.entry_changed(ROOT, "a")
    assert finish(kernel, notifier) == [("inode", 5, False), ("entry", 1, b"a", 0)]


def test_names_with_accents_are_dropped_in_both_spellings() -> None:
    kernel, notifier = held()
    notifier.entry_changed(ROOT, "é")
    assert finish(kernel, notifier) == [("entry", 1, b"\xc3\xa9", 0), ("entry", 1, b"e\xcc\x81", 0)]


def test_a_full_queue_drops_the_oldest_name_and_says_so_once(expect_log: Callable[..., None]) -> None:
    expect_log("changes wait for the kernel")
    kernel, notifier = held(limit=3)
    notifier.node_changed(Ino(5), content=True)
    for number in range(5):
        notifier.entry_changed(ROOT, f"n{number}")
    assert notifier.statistics().dropped == 3
    assert finish(kernel, notifier) == [("inode", 5, False), ("entry", 1, b"n3", 0), ("entry", 1, b"n4", 0)]


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
