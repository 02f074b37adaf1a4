"""Tells the kernel what changed on the server, so that it can cache for long and still be right.

An invalidation may block on a page or a folder that waits for one of our own answers (pyfuse3
`invalidate_entry`), so the calls are made in a thread of their own and never on the loop. The queue is
bounded and coalescing: a thousand changes of one file are one call. Where more names wait than may, their folders are
forgotten instead, with all that the kernel knows below them; so nothing that changed is kept.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec
import pyfuse3
import trio

from cloudfs.types import ROOT, Ino, Kind

__all__ = ["Kernel", "KernelNotifier", "Notifications"]

log = logging.getLogger(__name__)

_DELIVERY_S, _LOOK_S = 1.0, 0.001
_NODES_TO_NAMES = 10
"""So many times as many nodes may wait, 100 bytes each: nothing stands for one that a program has open. A call blocks
for a request's deadline at most, and listings bring some thousand changes in a second."""


class Kernel(Protocol):
    """The calls that reach the kernel; each may block, and raises OSError (ENOENT: it does not know that)."""

    def invalidate_inode(self, inode: int, attr_only: bool = ...) -> None:  # noqa: FBT001  # pyfuse3's
        """Drop cached attributes, and unless `attr_only` also the cached pages."""
        ...

    def invalidate_entry(self, inode_p: int, name: bytes) -> None:
        """Drop a name of a folder, and all that is known below it."""
        ...


class Notifications(msgspec.Struct, frozen=True):
    """What became of the changes announced so far."""

    sent: int
    unknown: int
    """Of those sent: the kernel did not know the inode or the name, or refused."""
    dropped: int
    """Lost, as nothing could stand for them: the kernel's own time-outs have to do for them."""
    waiting: int


_Name = tuple[Ino, str]


class KernelNotifier:
    """A `metadata.changes.ChangeSink` for the kernel's caches.

    INVARIANT: `_lock` is held for dictionary work only, and to ask `place`, never across a call into the kernel.
    """

    def __init__(self, kernel: Kernel | None = None, *, limit: int = 50_000) -> None:
        """`limit` is the number of names that may wait, about 10 MB at most."""
        self._kernel: Kernel = kernel or _PyFuse()
        self._limit = limit
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._nodes: OrderedDict[Ino, bool] = OrderedDict()
        self._names: OrderedDict[_Name, None] = OrderedDict()
        self._sent = self._unknown = self._dropped = 0
        self._open = False
        self.place: Callable[[Ino], tuple[Ino, str] | None] = lambda _: None
        """Tells the folder and name of a folder, on the loop and at once."""
        self._calling: Ino | None = None
        """The inode whose change the kernel is being told."""
        self._thread: threading.Thread | None = None

    # --- ChangeSink: on the loop, at once, never failing

    def entry_changed(self, parent: Ino, name: str) -> None:
        """Have the name looked up anew."""
        self._put_name((parent, name))

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:  # noqa: ARG002
        """Have the name forgotten.

        The kernel is not told that its inode is removed: that of a folder would be dead, and shown as empty wherever
        the folder went, for as long as a program has it open.
        """
        self._put_name((parent, name))

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        """Have the attributes, and with `content` the pages, asked for anew."""
        with self._work:
            if self._open:
                self._nodes[ino] = content or self._nodes.pop(ino, False)
                if len(self._nodes) > self._limit * _NODES_TO_NAMES:
                    self._nodes.popitem(last=False)
                    self._lose()
                self._work.notify()

    async def delivered(self, ino: Ino) -> None:
        """Return once the kernel has heard what was announced of an inode; after a moment in any case.

        Mostly at once; else it is a call into the kernel that lasts microseconds, unless it waits for a page.
        """
        with trio.move_on_after(_DELIVERY_S):
            while self._is_waiting(ino):  # noqa: ASYNC110  # another thread ends it, and mostly has already
                await trio.sleep(_LOOK_S)

    def _is_waiting(self, ino: Ino) -> bool:
        with self._lock:
            return ino in self._nodes or ino == self._calling

    # --- life

    def start(self) -> None:
        """Begin to call the kernel: the mount answers. What came before is nothing it could have cached."""
        with self._lock:
            self._open = True
        self._thread = threading.Thread(target=self._run, name="kernel-notify", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Drop what waits and end the thread; blocks up to `timeout_s`, so call it from a thread.

        False when the thread hangs in the kernel: it is abandoned, and the mount has to be aborted before
        the session may be closed.
        """
        with self._work:
            self._open = False
            self._nodes.clear()
            self._names.clear()
            self._work.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def forget_name(self, parent: Ino, name: str) -> None:
        """Have the kernel ask for a name anew; from a thread other than the loop's, since it may block."""
        with contextlib.suppress(OSError):
            self._kernel.invalidate_entry(parent, name.encode())

    def statistics(self) -> Notifications:
        """Return the counters as they are now."""
        with self._lock:
            waiting = len(self._nodes) + len(self._names)
            return Notifications(self._sent, self._unknown, self._dropped, waiting)

    # --- inside

    def _put_name(self, key: _Name) -> None:
        with self._work:
            if self._open:
                self._names.pop(key, None)
                self._names[key] = None
                self._make_room()
                self._work.notify()

    def _make_room(self) -> None:
        """Have folders stand for the names in them, from below to above, until half of the room is free.

        The kernel forgets what it knows below a name that it forgets, also which names do not exist; only of files that
        programs have open it keeps the names (`test_a_folder_that_is_forgotten_takes_all_below_it_along`).
        """
        if len(self._names) <= self._limit:
            return
        while len(self._names) > self._limit // 2 and self._gather():
            pass
        while len(self._names) > self._limit:  # in the root, for which nothing stands
            self._names.popitem(last=False)
            self._lose()

    def _gather(self) -> bool:
        """Put each folder in the place of its names; False when that is possible for none."""
        places = {parent: self.place(parent) for parent, _ in self._names if parent != ROOT}
        kept = OrderedDict((key, it) for key, it in self._names.items() if places.get(key[0]) is None)
        folders = [place for place in places.values() if place is not None]
        kept.update(dict.fromkeys(folders))
        self._names = kept
        return bool(folders)

    def _lose(self) -> None:
        if not self._dropped:
            log.warning("too many changes wait for the kernel: some will be seen late")
        self._dropped += 1

    def _run(self) -> None:
        while (change := self._next()) is not None:
            if isinstance(change[0], tuple):
                parent, name = change[0]
                for spelling in _spellings(name):
                    self._call_entry(parent, spelling)
            else:
                self._call_inode(*change)

    def _next(self) -> tuple[Ino, bool] | tuple[_Name, None] | None:
        with self._work:
            self._calling = None
            while self._open and not self._nodes and not self._names:
                self._work.wait()
            if not self._open:
                return None
            if self._nodes:
                node = self._nodes.popitem(last=False)
                self._calling = node[0]
                return node
            return self._names.popitem(last=False)

    def _call_inode(self, ino: Ino, content: bool) -> None:  # noqa: FBT001  # unpacked from the queue
        try:
            self._kernel.invalidate_inode(ino, not content)
        except OSError as error:
            self._count(error)
        else:
            self._count(None)

    def _call_entry(self, parent: Ino, name: bytes) -> None:
        try:
            self._kernel.invalidate_entry(parent, name)
        except OSError as error:
            self._count(error)
        else:
            self._count(None)

    def _count(self, error: OSError | None) -> None:
        # ENOENT: not cached. ENODEV, ENOTCONN: unmounted.
        # In each case nothing stale is left that a later lookup would not correct.
        with self._lock:
            self._sent += 1
            self._unknown += error is not None


class _PyFuse:
    """The mounted session of this process."""

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:  # noqa: FBT001, FBT002
        pyfuse3.invalidate_inode(inode, attr_only)

    def invalidate_entry(self, inode_p: int, name: bytes) -> None:
        pyfuse3.invalidate_entry(inode_p, name)


def _spellings(name: str) -> tuple[bytes, ...]:
    """Return the name as bytes; accents also decomposed, as programs from macOS ask for them."""
    composed = name.encode()
    decomposed = unicodedata.normalize("NFD", name).encode()
    return (composed,) if composed == decomposed else (composed, decomposed)
