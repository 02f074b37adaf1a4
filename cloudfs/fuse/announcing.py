"""Raises inotify events for what other clients change, so that file managers and editors refresh by themselves.

FUSE has no way to send them, but the kernel raises them for system calls through the mount. So a thread of ours makes
the call that the other client made, on our own mount, and `AnnouncingOperations` knows the thread and takes its
calls for announcements: they change nothing. Only where somebody watches (`watchers`), and in bounded number.

INVARIANT: the thread asks the loop, and never the other way round: no request ever waits for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
import trio

from cloudfs.fuse.notify import KernelNotifier
from cloudfs.fuse.watchers import watched_inodes
from cloudfs.types import Ino, Kind

__all__ = ["Act", "Announcement", "Announcer", "Names", "Placed"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_GATHER_S = 0.2
_MOVE_S = 1.0
"""A move is told of as a removal and something new, with the listing of another folder in between."""
_MOST = 2000
"""So many wait; of more, the oldest go unannounced."""
_PAUSE_S = 0.005
"""Between two calls: at most 200 in a second."""


class Act(Enum):
    """What another client did."""

    CREATE = "create"
    REMOVE = "remove"
    RENAME = "rename"
    WRITE = "write"
    TOUCH = "touch"


class Announcement(msgspec.Struct, frozen=True):
    """One thing that another client did. `parent` and `name`: where it was before, or is."""

    act: Act
    parent: Ino
    name: str
    ino: Ino
    kind: Kind
    new: tuple[Ino, str] | None = None
    """Where a renamed one is."""

    @property
    def folders(self) -> set[Ino]:
        """Where watchers see it."""
        return {self.parent} if self.new is None else {self.parent, self.new[0]}


class Placed(msgspec.Struct, frozen=True):
    """A node that the mount shows."""

    ino: Ino
    parent: Ino
    name: str
    kind: Kind
    size: int
    mtime_ns: int


class Names(Protocol):
    """What has to be known of the tree; asked on the loop only, answered at once."""

    def placed(self, ino: Ino) -> Placed | None:
        """Return a node; None once it is unlinked."""
        ...

    def child(self, parent: Ino, name: str) -> Placed | None:
        """Return what a name means now."""
        ...

    def path(self, ino: Ino) -> str | None:
        """Return where the mount shows a folder, beginning with /."""
        ...

    def was_listed(self, folder: Ino) -> bool:
        """Tell whether a folder's members were known before: else nothing in it is news."""
        ...


class Announcer:
    """A `metadata.changes.ChangeSink` in front of the kernel's; once attached to a mount it has events raised, too."""

    def __init__(
        self,
        notifier: KernelNotifier | None = None,
        *,
        watched: Callable[[int], frozenset[Ino]] = watched_inodes,
    ) -> None:
        self._notifier = notifier or KernelNotifier()
        self._watched_inodes = watched
        self._tree: Names | None = None
        self._mount_point = ""
        self._token: trio.lowlevel.TrioToken | None = None
        self._queue: deque[tuple[float, Announcement]] = deque(maxlen=_MOST)
        """Each with the time (monotonic) from which it may be told."""
        self._queue_lock = threading.Lock()
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._speaking: threading.Thread | None = None
        self._scanned_at = 0.0
        self._watched: frozenset[Ino] = frozenset()
        self._device = 0
        self.current: Announcement | None = None
        """What the thread is saying; its calls mean this, whatever they are."""
        self.thread_id: int | None = None
        self.raised = 0
        """How many announcements were made."""

    def attach(self, mount_point: str, names: Names) -> None:
        """Say on the loop what is to be announced where; before `start`."""
        self._mount_point, self._tree = mount_point, names
        self._notifier.place = self._place
        self._token = trio.lowlevel.current_trio_token()

    def _place(self, folder: Ino) -> tuple[Ino, str] | None:
        node = None if self._tree is None else self._tree.placed(folder)
        return None if node is None else (node.parent, node.name)

    async def delivered(self, ino: Ino) -> None:
        """See `KernelNotifier.delivered`."""
        await self._notifier.delivered(ino)

    # --- ChangeSink

    def entry_changed(self, parent: Ino, name: str) -> None:
        """Have the name looked up anew, and tell that it is there."""
        self._notifier.entry_changed(parent, name)
        if self._tree is None or not self._tree.was_listed(parent):
            return
        there = self._tree.child(parent, name)
        if there is None:
            return
        if (gone := self._take_removal(there.ino)) is None:
            self._put(Announcement(Act.CREATE, parent, name, there.ino, there.kind))
        else:
            self._put(Announcement(Act.RENAME, gone.parent, gone.name, there.ino, there.kind, (parent, name)))

    def _take_removal(self, ino: Ino) -> Announcement | None:
        """Take back that a node is gone, if nobody was told of it yet: it went elsewhere."""
        with self._queue_lock:
            for waiting in self._queue:
                if waiting[1].act is Act.REMOVE and waiting[1].ino == ino:
                    self._queue.remove(waiting)
                    return waiting[1]
        return None

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:
        """Have the name forgotten, and tell that it is gone."""
        self._notifier.entry_removed(parent, name, ino, kind)
        removal = Announcement(Act.REMOVE, parent, name, ino, kind)
        with self._queue_lock:
            if any(waiting == removal for _, waiting in self._queue):
                return  # what is found elsewhere is told to be gone once more
        self._put(removal)

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        """Have the attributes, and with `content` the pages, asked for anew, and tell that a file is another one."""
        self._notifier.node_changed(ino, content=content)
        node = None if self._tree is None else self._tree.placed(ino)
        if node is not None and node.kind is Kind.FILE:
            act = Act.WRITE if content else Act.TOUCH
            self._put(Announcement(act, node.parent, node.name, ino, node.kind))

    def _put(self, announcement: Announcement) -> None:
        if self._speaking is not None and not self._ended.is_set():
            due = time.monotonic() + (_MOVE_S if announcement.act is Act.REMOVE else _GATHER_S)
            with self._queue_lock:
                self._queue.append((due, announcement))
                self._ready.set()

    # --- life

    def start(self) -> None:
        """Begin: the mount answers."""
        self._notifier.start()
        if self._tree is not None:
            self._speaking = threading.Thread(target=self._run, name="announcer", daemon=True)
            self._speaking.start()

    def stop(self, timeout_s: float) -> bool:
        """End both threads; what waits is not told any more. False where one hangs in the kernel."""
        self._ended.set()
        self._ready.set()
        if self._speaking is not None:
            self._speaking.join(timeout_s)
        hangs = self._speaking is not None and self._speaking.is_alive()
        return self._notifier.stop(timeout_s) and not hangs

    # --- the thread

    def _run(self) -> None:
        self.thread_id = threading.get_native_id()
        while not self._ended.is_set():
            with self._queue_lock:
                due, announcement = self._queue[0] if self._queue else (0.0, None)
                left_s = due - time.monotonic()
                if announcement is None:
                    self._ready.clear()
                elif left_s <= 0:
                    self._queue.popleft()
            if announcement is None:
                # In this order: whoever ends us sets the one, then the other, and we have just taken the other back.
                if not self._ended.is_set():
                    self._ready.wait()
            elif left_s > 0:
                self._ended.wait(left_s)
            else:
                self._announce(announcement, due - _GATHER_S)

    def _announce(self, announcement: Announcement, since: float) -> None:
        try:
            if self._is_watched(announcement, since):
                self._say(announcement)
                self._ended.wait(_PAUSE_S)
        except (OSError, trio.RunFinishedError, trio.Cancelled) as error:
            # It has changed again, or a program was there first: then that is what is told next.
            log.debug("not announced: %s: %s", announcement, error)

    def _is_watched(self, announcement: Announcement, since: float) -> bool:
        """Tell whether anybody watches, at `since` or later: who was shown the old state by then asks for no other.

        What becomes due within the next _GATHER_S is covered by the same look, so there are five a second at most.
        """
        if self._scanned_at < since:
            self._device = self._device or Path(self._mount_point).stat().st_dev
            self._scanned_at = time.monotonic()
            self._watched = self._watched_inodes(self._device)
        return not self._watched.isdisjoint({*announcement.folders, announcement.ino})

    def _say(self, announcement: Announcement) -> None:
        path = self._path_of(announcement.parent, announcement.name)
        node = self._ask(lambda names: names.placed(announcement.ino))
        new = None if announcement.new is None else self._path_of(*announcement.new)
        if path is None or (node is None and announcement.act is not Act.REMOVE):
            return
        for parent, name in filter(None, ((announcement.parent, announcement.name), announcement.new)):
            if announcement.act in {Act.CREATE, Act.REMOVE, Act.RENAME}:
                # What the kernel knows of the name would be the answer to our call, and no event.
                self._notifier.forget_name(parent, name)
        self.current = announcement
        try:
            _call(announcement, path, new, node)
            self.raised += 1
        finally:
            self.current = None

    def _path_of(self, parent: Ino, name: str) -> str | None:
        folder = self._ask(lambda names: names.path(parent))
        return None if folder is None else f"{self._mount_point}{folder.rstrip('/')}/{name}"

    def _ask(self, question: Callable[[Names], T]) -> T:
        names = self._tree
        assert names is not None  # noqa: S101  # the thread is started with names only
        return trio.from_thread.run_sync(lambda: question(names), trio_token=self._token)


def _call(announcement: Announcement, path: str, new: str | None, node: Placed | None) -> None:
    """Make the system call that raises the event."""
    match announcement.act, announcement.kind:
        case Act.CREATE, Kind.FOLDER:
            Path(path).mkdir()
        case Act.CREATE, _:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
        case Act.REMOVE, Kind.FOLDER:
            Path(path).rmdir()
        case Act.REMOVE, _:
            Path(path).unlink()
        case Act.RENAME, _ if new is not None:
            Path(path).rename(new)
        case Act.WRITE, _ if node is not None:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except PermissionError:  # it may not be written here, so it is told as a change of its attributes
                os.utime(path, ns=(node.mtime_ns, node.mtime_ns))
                return
            try:
                os.ftruncate(descriptor, node.size)
            finally:
                os.close(descriptor)
        case Act.TOUCH, _ if node is not None:
            os.utime(path, ns=(node.mtime_ns, node.mtime_ns))
