"""The tree as the mount shows it: names, attributes, and local changes to both.

Every local change is one transaction and touches local views only; what the server has to be told follows
from the difference to the synced views. NO CHECKPOINT: methods without `async` are critical sections.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Protocol

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import PosixError
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.permissions import require, require_creatable, require_movable
from cloudfs.metadata.placing import stays_local
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.spreading import Spreading
from cloudfs.paths import NameRules, check_name, is_below, join, lookup_name
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, Kind

__all__ = ["Tree"]


class _Lister(Protocol):
    async def ensure_listed(self, ino: Ino) -> None: ...
    async def confirm_absence(self, ino: Ino) -> None: ...
    async def renewed(self, folder: Ino) -> None: ...


class Tree:
    """Lookups and changes by inode. `changed` is told of every node with new work for the server."""

    def __init__(
        self,
        store: Store,
        lister: _Lister,
        residents: Residents,
        displaced: Displaced,
        *,
        rules: Callable[[], NameRules],
        changed: Callable[[Ino], None],
        discard: Callable[[Ino], None],
        spreading: Spreading,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._lister = lister
        self._residents = residents
        self._rules = rules
        self._changed = changed
        self._discard = discard
        self._displaced = displaced
        self.moved: Callable[[Ino], None] = lambda _: None
        """Told of each node that is shown elsewhere from now on, with all that is in it."""
        self.emptied: Callable[[Ino], None] = lambda _: None
        """Told of each folder from which something was removed."""
        self.spreading = spreading
        """It marks what is in a folder that becomes one of this machine alone, or no longer is."""

    # Looking

    def node(self, ino: Ino) -> Node:
        """Return a node; ENOENT when it is gone."""
        node = self._nodes.get(ino)
        if node is None:
            raise PosixError(errno.ENOENT, f"inode {ino}")
        return node

    def folder(self, ino: Ino) -> Node:
        """Return a folder that the mount shows; ENOENT when it was removed, ENOTDIR for a file."""
        node = self.node(ino)
        if not node.folder:
            raise PosixError(errno.ENOTDIR, node.name)
        if not node.linked:
            raise PosixError(errno.ENOENT, node.name)
        return node

    async def lookup(self, parent: Ino, raw: bytes) -> Node:
        """Return what a name means; ENOENT only when the folder's members are known and it is not among them."""
        name = _existing_name(raw)
        self.folder(parent)
        await self._lister.renewed(parent)
        if self._nodes.child(parent, name) is None:
            # Before ensure_listed, which starts a renewal that nobody waits for.
            await self._lister.confirm_absence(parent)
        await self._lister.ensure_listed(parent)
        child = self._nodes.child(parent, name)
        if child is None:
            raise PosixError(errno.ENOENT, name)
        return child

    async def free_name(self, parent: Ino, raw: bytes, kind: Kind) -> tuple[Node, str]:
        """Return the folder and the stored form of a name that may be created in it.

        EEXIST when it is taken, EACCES when the server does not let us create there, and as `check_name`.
        """
        name = check_name(raw, self._rules(), new_file=kind is Kind.FILE)
        await self._lister.ensure_listed(parent)
        folder = self.folder(parent)
        if self._nodes.child(parent, name) is not None:
            raise PosixError(errno.EEXIST, name)
        self._require_short(folder, name)
        require_creatable(folder, kind, name)
        return folder, name

    # Changing

    def create(self, folder: Node, name: str, kind: Kind, mode: int | None) -> Node:
        """Add an empty file or folder; the name was found free without a checkpoint since."""
        now = time.time_ns()
        with self._store.transaction():
            ino = self._nodes.insert(
                parent=folder.ino,
                name=name,
                folder=int(kind is Kind.FOLDER),
                mtime_ns=now,
                ctime_ns=now,
                mode=mode,
                # Nobody else can have put anything into a folder that the server does not know.
                listed_at=time.time() if kind is Kind.FOLDER else None,
                local_only=int(stays_local(name, folder)),
            )
            self._stamp(folder.ino, now)
        self._changed(ino)
        return self.node(ino)

    async def unlink(self, parent: Ino, raw: bytes) -> Node:
        """Remove a file's name and return what was removed; it lives on while somebody holds it."""
        node = await self.lookup(parent, raw)
        if node.folder:
            raise PosixError(errno.EISDIR, node.name)
        self._remove(parent, node)
        return node

    def remove_exactly(self, node: Node) -> None:
        """Remove a file's name, but only while it means this very version. NO CHECKPOINT.

        That is the very content where it was sealed all the while. Raises PosixError: ENOENT when it is another one,
        EACCES when the server does not allow it.
        """
        current = self.node(node.ino)
        if current.parent is None or (current.parent, current.name, current.version) != (
            node.parent,
            node.name,
            node.version,
        ):
            raise PosixError(errno.ENOENT, node.name)
        self._remove(current.parent, current)

    async def rmdir(self, parent: Ino, raw: bytes) -> Node:
        """Remove an empty folder; ENOTEMPTY while the mount shows anything in it."""
        node = await self.lookup(parent, raw)
        if not node.folder:
            raise PosixError(errno.ENOTDIR, node.name)
        await self._lister.ensure_listed(node.ino)
        node = self.node(node.ino)
        self._require_empty(node)
        self._remove(parent, node)
        return node

    def _remove(self, parent: Ino, node: Node) -> None:
        if node.parent != parent:
            raise PosixError(errno.ENOENT, node.name)
        require(self.folder(parent) if node.local_only else node, "D", node.name)
        now = time.time_ns()
        with self._store.transaction():
            self._unlink_row(node, now)
            self._stamp(parent, now)
        reached("unlinked")
        self.emptied(parent)
        self._changed(node.ino)

    def _unlink_row(self, node: Node, now: int) -> None:
        self._nodes.update(node.ino, parent=None, ctime_ns=now)
        self._displaced.forget(node.ino)
        if not node.synced:
            self.collect(node.ino)

    async def rename(
        self, parent: Ino, raw: bytes, new_parent: Ino, new_raw: bytes, *, replace: bool, exchange: bool
    ) -> tuple[Node, Node | None]:
        """Move a node, return it and the node that it replaced or was exchanged with.

        Errors as rename(2): EEXIST without `replace`, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL into itself, EACCES.
        """
        source = await self.lookup(parent, raw)
        new_name = check_name(new_raw, self._rules())
        await self._lister.ensure_listed(new_parent)
        target = self._nodes.child(new_parent, new_name)
        if target is not None and target.folder:
            await self._lister.ensure_listed(target.ino)
        # NO CHECKPOINT from here on: what was looked up is looked up again and then changed.
        source, target = self.node(source.ino), self._nodes.child(new_parent, new_name)
        folder = self.folder(new_parent)
        if source.parent != parent:
            raise PosixError(errno.ENOENT, source.name)
        if exchange:
            return self._exchange(source, target)
        if target is not None and target.ino == source.ino:
            return source, None
        self._check_rename(source, folder, target, replace=replace)
        self._require_short(folder, new_name)
        if not source.folder and not source.synced and target is None:
            check_name(new_raw, self._rules(), new_file=True)
        if target is not None and self._displaced.is_unseen(target.ino):
            with self._store.transaction():
                self._move(source, folder, self._displaced.keep_apart(source, target), None)
            return self.node(source.ino), None
        self._move(source, folder, new_name, target)
        return self.node(source.ino), target

    def _check_rename(self, source: Node, folder: Node, target: Node | None, *, replace: bool) -> None:
        if target is not None and not replace:
            raise PosixError(errno.EEXIST, target.name)
        self._require_outside(source, folder)
        require_movable(source, folder)
        # Also for a name in the same folder, which a Nextcloud would allow: who saves a file renames it away first, and
        # must not find out afterwards that a new one cannot be made.
        if source.parent != folder.ino or target is None:
            require_creatable(folder, source.kind, source.name)
        if target is None:
            return
        if target.folder and not source.folder:
            raise PosixError(errno.EISDIR, target.name)
        if source.folder and not target.folder:
            raise PosixError(errno.ENOTDIR, target.name)
        self._require_empty(target)
        # A file's content becomes the target's; an empty folder goes.
        require(target, "D" if target.folder else "W", target.name)

    def _move(self, source: Node, folder: Node, name: str, target: Node | None) -> None:
        now = time.time_ns()
        with self._store.transaction():
            if target is not None:
                self._store.hand_on_conflict(target.ino, source.ino)
                self._store.pins.hand_on(target.ino, source.ino)
                self._unlink_row(target, now)
            self._place(source, folder, name, now)
            self._stamp(folder.ino, now)
            if source.parent is not None and source.parent != folder.ino:
                self._stamp(source.parent, now)
        self._changed(source.ino)
        if target is not None:
            self._changed(target.ino)

    def _exchange(self, source: Node, target: Node | None) -> tuple[Node, Node]:
        if target is None or source.parent is None or target.parent is None:
            raise PosixError(errno.ENOENT, source.name)
        here, there = self.folder(source.parent), self.folder(target.parent)
        self._require_outside(source, there)
        self._require_outside(target, here)
        for node, folder in ((source, there), (target, here)):
            require_movable(node, folder)
            require_creatable(folder, node.kind, node.name)
        now = time.time_ns()
        with self._store.transaction():
            self._nodes.update(target.ino, parent=None)
            self._place(source, there, target.name, now)
            self._place(target, here, source.name, now)
            self._stamp(here.ino, now)
            self._stamp(there.ino, now)
        self._changed(source.ino)
        self._changed(target.ino)
        return self.node(source.ino), self.node(target.ino)

    def _place(self, node: Node, folder: Node, name: str, now: int) -> None:
        self.moved(node.ino)
        local_only = stays_local(name, folder)
        self._nodes.update(node.ino, parent=folder.ino, name=name, ctime_ns=now, local_only=int(local_only))
        # While something is being marked, the members of one that has the right mark may not have it yet.
        if node.folder and (local_only != bool(node.local_only) or self.spreading.pending):
            self.spreading.begin(node.ino)

    def set_attributes(self, ino: Ino, *, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """chmod (kept here only) and utimens (goes to servers that keep it); ENOENT, EACCES."""
        node = self.node(ino)
        if mtime_ns is not None:
            # The server would take it, from everybody (protocol.md §2.2).
            require(node, "CK" if node.folder else "W", node.name)
        columns: dict[str, int] = {"ctime_ns": time.time_ns()}
        if mode is not None:
            columns["mode"] = mode & 0o7777
        if mtime_ns is not None:
            columns["mtime_ns"] = mtime_ns
        self._nodes.update(ino, **columns)
        if mtime_ns is not None and mtime_ns != node.mtime_ns:
            self._changed(ino)

    def collect(self, ino: Ino) -> None:
        """Delete a node that neither the mount, the server nor anybody else refers to, with its content."""
        node = self._nodes.get(ino)
        if node is None or node.linked or node.synced or node.tried or self._residents.is_held(ino):
            return
        with self._store.transaction():
            self._discard(ino)
            self._nodes.delete(ino)

    async def current(self, ino: Ino) -> Node:
        """Return a node that is about to be opened, after what a read has just found out about it was taken over.

        ESTALE when another client's version has its name by then: whoever opens it means that one.
        """
        if (parent := self.node(ino).parent) is not None:
            await self._lister.renewed(parent)
        if self._displaced.is_displaced(ino):
            raise PosixError(errno.ESTALE, f"inode {ino}")
        return self.node(ino)

    def opened(self, ino: Ino) -> None:
        """A program opened a file: it knows this version."""
        self._displaced.opened(ino)

    def closed(self, ino: Ino) -> None:
        """A handle was closed: what waited for that can go up, or go away, now."""
        node = self._nodes.get(ino)
        if node is not None and node.dirty:
            self._changed(ino)

    def collect_orphans(self) -> None:
        """At start nobody holds anything: delete what only open handles had kept alive before."""
        for node in self._nodes.orphans():
            self.collect(node.ino)

    def _stamp(self, folder: Ino, now: int) -> None:
        # A folder's time follows its members everywhere by itself: that is no work for the server.
        node = self.node(folder)
        self._nodes.update(folder, mtime_ns=now, ctime_ns=now, **({"s_mtime_ns": now} if node.synced else {}))

    def _require_empty(self, node: Node) -> None:
        if node.folder and self._nodes.has_children(node.ino):
            raise PosixError(errno.ENOTEMPTY, node.name)

    def _require_outside(self, source: Node, folder: Node) -> None:
        if source.folder and (folder.ino == source.ino or source.ino in self._nodes.ancestors(folder.ino)):
            raise PosixError(errno.EINVAL, source.name)

    def _require_short(self, folder: Node, name: str) -> None:
        """Raise ENAMETOOLONG for a path that the server does not take. What is below what moves is not looked at."""
        above = None if stays_local(name, folder) else self._nodes.local_path(folder.ino)
        if above is not None and len(join(above, name).encode()) > self._rules().path_bytes:
            raise PosixError(errno.ENAMETOOLONG, name)

    def path(self, ino: Ino) -> str | None:
        """Return where the mount shows a node; None once it is unlinked."""
        return self._nodes.local_path(ino)

    def resolve(self, path: str) -> Node | None:
        """Return the node that the mount is known to show at a path below its root; never asks the server."""
        node = self._nodes.get(ROOT)
        for name in filter(None, path.split("/")):
            if node is None:
                return None
            node = self._nodes.child(node.ino, name)
        return node

    def is_inside(self, ino: Ino, folder_path: str) -> bool:
        """Tell whether a node, or what is left of it on the server, lies at or below a path."""
        paths = (self._nodes.local_path(ino), self._nodes.synced_path(ino))
        return any(path is not None and is_below(path, folder_path) for path in paths)


def _existing_name(raw: bytes) -> str:
    """Return the stored text of a name that is looked for; ENOENT where it is no UTF-8, and so cannot be here."""
    try:
        return lookup_name(raw)
    except PosixError as error:
        if error.errno != errno.EILSEQ:
            raise
        raise PosixError(errno.ENOENT, repr(raw)) from error
