"""The ways from nodes up to the root, and down to all below them, in the mount and on the server."""

from __future__ import annotations

from cloudfs.paths import ROOT_PATH
from cloudfs.store.records import Node
from cloudfs.store.rows import Rows
from cloudfs.types import ROOT, Ino, RemotePath

__all__ = ["Ways"]


class Ways(Rows):
    """Paths, and what lies above and below; a part of `Nodes`."""

    def local_path(self, ino: Ino) -> RemotePath | None:
        """Return where the mount shows a node, None when it or a folder above is unlinked."""
        return self._path(ino, "parent", "name")

    def synced_path(self, ino: Ino) -> RemotePath | None:
        """Return where the server has a node, None when the server does not have it."""
        return self._path(ino, "s_parent", "s_name")

    def spelled(self, path: RemotePath) -> RemotePath:
        """Return a path on the server as the server spells it; NFC for what is not known there, as we make it."""
        if self._db.execute("SELECT 1 FROM nodes WHERE s_spelling IS NOT NULL LIMIT 1").fetchone() is None:
            return path
        segments: list[str] = []
        above: Ino | None = ROOT
        for name in path[1:].split("/"):
            node = None if above is None else self.synced_child(above, name)
            segments.append(name if node is None else node.s_spelling or name)
            above = None if node is None else node.ino
        return RemotePath("/" + "/".join(segments))

    def _path(self, ino: Ino, parent: str, name: str) -> RemotePath | None:
        segments: list[str] = []
        sql = f"SELECT {parent}, {name} FROM nodes WHERE ino = ?"
        while ino != ROOT:
            row = self._db.execute(sql, (ino,)).fetchone()
            if row is None or row[0] is None:
                return None
            ino = row[0]
            segments.append(row[1])
        return RemotePath("/" + "/".join(reversed(segments))) if segments else ROOT_PATH

    def ancestors(self, ino: Ino) -> list[Ino]:
        """Return the folders above a node in the mount, nearest first, up to the root."""
        return self._ancestors(ino, "parent")

    def synced_ancestors(self, ino: Ino) -> list[Ino]:
        """Return the folders above a node on the server, nearest first, up to the root."""
        return self._ancestors(ino, "s_parent")

    def _ancestors(self, ino: Ino, parent: str) -> list[Ino]:
        found: list[Ino] = []
        while ino != ROOT:
            row = self._db.execute(f"SELECT {parent} FROM nodes WHERE ino = ?", (ino,)).fetchone()
            if row is None or not row[0]:
                break
            ino = Ino(row[0])
            found.append(ino)
        return found

    def descendants(self, ino: Ino) -> list[Node]:
        """Return everything that the mount shows below a folder, folders before their members."""
        return self._below(ino, "parent")

    def synced_descendants(self, ino: Ino) -> list[Node]:
        """Return everything that the server has below a folder as far as we know, folders first."""
        return self._below(ino, "s_parent")

    def _below(self, ino: Ino, parent: str) -> list[Node]:
        level, found = [ino], []
        while level:
            members = (self.children if parent == "parent" else self.synced_children, level)
            nodes = [node for folder in members[1] for node in members[0](folder)]
            found += nodes
            level = [node.ino for node in nodes if node.folder]
        return found
