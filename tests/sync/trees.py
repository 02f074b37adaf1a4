"""Builds a pair of trees over the same nodes, one on the server and one in the mount, in a real store."""

from __future__ import annotations

from cloudfs.metadata.placing import stays_local
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino
from tests.sync.reference import Server, converge

__all__ = ["Pair"]

_T0 = 1_000_000_000_000_000_000


class Pair:
    """A synced tree, and the changes that programs make to it in the mount."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.nodes = store.nodes
        self.server = Server()
        self._clock = _T0

    def synced(self, path: str, *, folder: bool | None = None) -> Ino:
        """Add an object that server and mount agree on: a folder where the path ends with a slash."""
        is_folder = path.endswith("/") if folder is None else folder
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self.at(above).ino
        version = ContentVersion(0) if is_folder else self.nodes.next_version()
        ident = self.server.add(self._ident(parent), name, folder=is_folder, content=version)
        return self.nodes.insert(
            parent=parent,
            name=name,
            folder=int(is_folder),
            version=version,
            mtime_ns=_T0,
            ctime_ns=_T0,
            s_parent=parent,
            s_name=name,
            s_version=version,
            s_mtime_ns=_T0,
            s_file_id=str(ident),
        )

    def _ident(self, ino: Ino) -> int:
        node = self.nodes.get(ino)
        return 0 if ino == ROOT or node is None else int(node.s_file_id or 0)

    def at(self, path: str) -> Node:
        """Return what the mount shows at a path."""
        node = self.nodes.get(ROOT)
        for name in filter(None, path.split("/")):
            assert node is not None
            node = self.nodes.child(node.ino, name)
        assert node is not None, path
        return node

    def _split(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rstrip("/").rpartition("/")
        return self.at(above), name

    def _tick(self) -> int:
        self._clock += 1_000_000_000
        return self._clock

    # What programs do; rows as `Tree` leaves them.

    def make(self, path: str) -> Ino:
        """Create a folder (a path with a slash at its end), or write a new file."""
        folder, name = self._split(path)
        is_folder = path.endswith("/")
        version = 0 if is_folder else self.nodes.next_version()
        now = self._tick()
        return self.nodes.insert(
            parent=folder.ino,
            name=name,
            folder=int(is_folder),
            version=version,
            mtime_ns=now,
            ctime_ns=now,
            listed_at=1.0 if is_folder else None,
            local_only=int(stays_local(name, folder)),
        )

    def write(self, path: str) -> None:
        """Give a file another content."""
        now = self._tick()
        self.nodes.update(self.at(path).ino, version=self.nodes.next_version(), mtime_ns=now, ctime_ns=now)

    def touch(self, path: str) -> None:
        """Set a time."""
        now = self._tick()
        self.nodes.update(self.at(path).ino, mtime_ns=now, ctime_ns=now)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that the mount shows in it."""
        node = self.at(path)
        for gone in (*reversed(self.nodes.descendants(node.ino)), node):
            self.unlink(gone)

    def unlink(self, node: Node) -> None:
        """Remove one name."""
        self.nodes.update(node.ino, parent=None, ctime_ns=self._tick())
        if not node.synced:
            self.nodes.delete(node.ino)

    def rename(self, old: str, new: str) -> None:
        """rename(2), over whatever is there (`Tree` asks whether it may)."""
        node, (folder, name) = self.at(old), self._split(new)
        target = self.nodes.child(folder.ino, name)
        if target is not None and target.ino != node.ino:
            self.unlink(target)
        self.place(node, folder, name)

    def exchange(self, one: str, other: str) -> None:
        """renameat2(2) with RENAME_EXCHANGE."""
        a, b = self.at(one), self.at(other)
        here, there = self._split(one), self._split(other)
        self.nodes.update(a.ino, parent=None)
        self.place(b, *here)
        self.place(a, *there)

    def place(self, node: Node, folder: Node, name: str) -> None:
        """Put a node under a free name, and decide again what below it goes up."""
        local_only = int(stays_local(name, folder))
        self.nodes.update(
            node.ino, parent=folder.ino, name=name, ctime_ns=self._tick(), local_only=local_only
        )
        if node.folder and local_only != node.local_only:
            level = [self.nodes.get(node.ino)]
            while level:
                above = level.pop()
                assert above is not None
                for child in self.nodes.children(above.ino):
                    self.nodes.set_local_only([child.ino], stays_local(child.name, above))
                    if child.folder:
                        level.append(self.nodes.get(child.ino))

    def sync(self) -> list[str]:
        """Bring the server up to the mount; return the requests."""
        return converge(self.store, self.server)

    def file_id(self, path: str) -> str | None:
        """Return the identity that the server gives to what the mount shows at a path."""
        return self.at(path).s_file_id
