"""Rows of `nodes`, found by inode, by place in either view, and by file id."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cloudfs.store.db import Database
from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["COLUMNS", "Rows"]

COLUMNS = ", ".join(Node.__struct_fields__)
"""Those of a `Node`, in its order."""


class Rows:
    """What all that is asked about nodes stands on; a part of `Nodes`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, ino: Ino) -> Node | None:
        """Return a node, None when its row is gone."""
        return self._one("ino = ?", (ino,))

    def get_many(self, inos: Sequence[int]) -> dict[int, Node]:
        """Return those of the nodes that still exist."""
        marks = ",".join("?" * len(inos))
        return {node.ino: node for node in self._many(f"ino IN ({marks})", tuple(inos))}

    def child(self, parent: Ino, name: str) -> Node | None:
        """Return what the mount shows under a name."""
        return self._one("parent = ? AND name = ?", (parent, name))

    def children(self, parent: Ino) -> list[Node]:
        """Return what the mount shows in a folder, by name."""
        return self._many("parent = ? ORDER BY name", (parent,))

    def children_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what the mount shows in a folder behind a name, by name; 8 µs each."""
        return self._many("parent = ? AND name > ? ORDER BY name LIMIT ?", (parent, name, count))

    def child_inos(self, parent: Ino, most: int = -1) -> array[int]:
        """Return the inodes that the mount shows in a folder, by name, up to so many (-1: all); 8 bytes each."""
        sql = "SELECT ino FROM nodes WHERE parent = ? ORDER BY name LIMIT ?"
        return array("q", (ino for (ino,) in self._db.execute(sql, (parent, most))))

    def members_after(self, parent: Ino, name: str, count: int) -> list[tuple[Ino, str, int, int]]:
        """Return inode, name, `folder` and `local_only` of up to so many behind a name; 1 µs each."""
        sql = "SELECT ino, name, folder, local_only FROM nodes WHERE parent = ? AND name > ? ORDER BY name LIMIT ?"
        return self._db.execute(sql, (parent, name, count)).fetchall()

    def count_children(self, parent: Ino) -> int:
        """Count what the mount shows in a folder; 0.02 µs each."""
        (count,) = self._db.execute("SELECT count(*) FROM nodes WHERE parent = ?", (parent,)).fetchone()
        return int(count)

    def has_children(self, parent: Ino) -> bool:
        """Tell whether the mount shows anything in a folder."""
        return (
            self._db.execute("SELECT 1 FROM nodes WHERE parent = ? LIMIT 1", (parent,)).fetchone() is not None
        )

    def count_small_files(self, parent: Ino, most_bytes: int, *, among: int) -> int:
        """Count the files of 1 to so many bytes among the first so many members of a folder."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT folder, size FROM nodes WHERE parent = ? LIMIT ?)"
            " WHERE NOT folder AND size BETWEEN 1 AND ?",
            (parent, among, most_bytes),
        ).fetchone()
        return int(count)

    def mount_roots(self, parent: Ino) -> list[Node]:
        """Return the roots of shares and other storages that the mount shows in a folder."""
        return self._many("parent = ? AND mount_root", (parent,))

    def synced_child(self, parent: Ino, name: str) -> Node | None:
        """Return the node that the server has under a name, wherever the mount shows it."""
        moved = self._one("moved AND s_parent = ? AND s_name = ?", (parent, name))
        if moved is not None:
            return moved
        placed = self.child(parent, name)
        return placed if placed is not None and placed.placed else None

    def synced_children(self, parent: Ino) -> list[Node]:
        """Return what the server has in a folder, as far as we know."""
        placed = self._many("parent = ? AND s_parent = parent AND s_name = name", (parent,))
        return placed + self._many("moved AND s_parent = ?", (parent,))

    def synced_dot_names(self, parent: Ino) -> list[str]:
        """Return the names that begin with a dot of what the server has in a folder, as far as we know."""
        placed = "parent = ? AND name >= '.' AND name < '/' AND s_parent = parent AND s_name = name"
        moved = "moved AND s_parent = ? AND s_name >= '.' AND s_name < '/'"
        found = self._many(placed, (parent,)) + self._many(moved, (parent,))
        return [node.s_name for node in found if node.s_name]

    def has_synced_members(self, parent: Ino) -> bool:
        """Tell whether the server has anything in a folder, as far as we know."""
        sql = "SELECT 1 FROM nodes WHERE parent = ? AND s_parent = parent AND s_name = name LIMIT 1"
        return self._db.execute(sql, (parent,)).fetchone() is not None or self.has_moved(parent)

    def has_moved(self, parent: Ino) -> bool:
        """Tell whether the server has anything in a folder that the mount shows elsewhere, or no more."""
        sql = "SELECT 1 FROM nodes WHERE moved AND s_parent = ? LIMIT 1"
        return self._db.execute(sql, (parent,)).fetchone() is not None

    def placed_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what both views have in a folder, by name, from beyond `name` on."""
        where = "parent = ? AND name > ? AND s_parent = parent AND s_name = name ORDER BY name LIMIT ?"
        return self._many(where, (parent, name, count))

    def moved_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what the server alone has in a folder, by its names, from beyond `name` on."""
        return self._many(
            "moved AND s_parent = ? AND s_name > ? ORDER BY s_name LIMIT ?", (parent, name, count)
        )

    def is_taken(self, parent: Ino, name: str) -> bool:
        """Tell whether anything is shown under a name, is there on the server, or may be there; 7 µs."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM nodes WHERE parent = ?1 AND name = ?2)"
            " OR EXISTS (SELECT 1 FROM nodes WHERE moved AND s_parent = ?1 AND s_name = ?2)"
            " OR EXISTS (SELECT 1 FROM nodes WHERE t_parent IS NOT NULL AND t_parent = ?1 AND t_name = ?2)"
        )
        return bool(self._db.execute(sql, (parent, name)).fetchone()[0])

    def by_file_id(self, file_id: str) -> list[Node]:
        """Return the nodes that carry a server's file id; one id may stand at two paths (protocol.md §3.3)."""
        return self._many("s_file_id = ?", (file_id,))

    def folders_of(self, file_ids: Iterable[str]) -> dict[str, set[Ino]]:
        """Return in which folders of the server nodes with these file ids are known; 2 µs each."""
        found: dict[str, set[Ino]] = {}
        sql = (
            "SELECT s_file_id, s_parent FROM nodes WHERE s_parent IS NOT NULL"
            " AND s_file_id IN (SELECT value FROM json_each(?))"
        )
        for file_id, folder in self._db.execute(sql, (msgspec.json.encode(list(file_ids)).decode(),)):
            found.setdefault(file_id, set()).add(Ino(folder))
        return found

    def orphans(self) -> list[Node]:
        """Return nodes that neither the mount nor the server has: unlinked ones that were open at a crash."""
        return self._many("parent IS NULL AND s_parent IS NULL AND t_parent IS NULL", ())

    def _one(self, where: str, parameters: tuple[Any, ...]) -> Node | None:
        row = self._db.execute(f"SELECT {COLUMNS} FROM nodes WHERE {where}", parameters).fetchone()
        return None if row is None else Node(*row)

    def _many(self, where: str, parameters: tuple[Any, ...]) -> list[Node]:
        rows = self._db.execute(f"SELECT {COLUMNS} FROM nodes WHERE {where}", parameters)
        return [Node(*row) for row in rows]
