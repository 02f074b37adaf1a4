"""Reading and writing rows of `nodes`. No decisions here: callers say which columns become what."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from cloudfs.paths import ROOT_PATH
from cloudfs.store.db import Database
from cloudfs.store.outstanding import LEAVING, Outstanding
from cloudfs.store.records import Node
from cloudfs.types import ROOT, ContentVersion, Ino, RemotePath

__all__ = ["Nodes"]

_COLUMNS = ", ".join(Node.__struct_fields__)
_SETTABLE = frozenset(Node.__struct_fields__) - {"ino", "folder", "dirty"}
_UNSYNCED = dict.fromkeys(
    "s_parent s_name s_version s_mtime_ns s_etag s_size s_modified_s s_checksum s_file_id permissions"
    " listed_etag s_spelling".split()
) | {"mount_root": 0, "meant": 0}
_ANY_TRIED = "SELECT 1 FROM nodes INDEXED BY nodes_tried WHERE t_parent IS NOT NULL LIMIT 1"


class Nodes(Outstanding):
    """The tree's rows. Sequence numbers of contents are drawn here too."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._watchers: list[set[Ino]] = []

    @contextmanager
    def watched(self) -> Iterator[set[Ino]]:
        """Collect the nodes that are added, changed or gone within the block: for whoever reads many rows in slices."""
        changed = set[Ino]()
        self._watchers.append(changed)
        try:
            yield changed
        finally:
            # By identity: another one may hold the same.
            self._watchers = [it for it in self._watchers if it is not changed]

    # Reading

    def get(self, ino: Ino) -> Node | None:
        """Return a node, None when its row is gone."""
        return self._one("ino = ?", (ino,))

    def child(self, parent: Ino, name: str) -> Node | None:
        """Return what the mount shows under a name."""
        return self._one("parent = ? AND name = ?", (parent, name))

    def synced_child(self, parent: Ino, name: str) -> Node | None:
        """Return the node that the server has under a name, wherever the mount shows it."""
        moved = self._one("moved AND s_parent = ? AND s_name = ?", (parent, name))
        if moved is not None:
            return moved
        placed = self.child(parent, name)
        return placed if placed is not None and placed.placed else None

    def is_taken(self, parent: Ino, name: str) -> bool:
        """Tell whether anything is shown under a name, is there on the server, or may be there; 7 µs."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM nodes WHERE parent = ?1 AND name = ?2)"
            " OR EXISTS (SELECT 1 FROM nodes WHERE moved AND s_parent = ?1 AND s_name = ?2)"
            " OR EXISTS (SELECT 1 FROM nodes WHERE t_parent IS NOT NULL AND t_parent = ?1 AND t_name = ?2)"
        )
        return bool(self._db.execute(sql, (parent, name)).fetchone()[0])

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

    def by_file_id(self, file_id: str) -> list[Node]:
        """Return the nodes that carry a server's file id; one id may stand at two paths (protocol.md §3.3)."""
        return self._many("s_file_id = ?", (file_id,))

    def children(self, parent: Ino) -> list[Node]:
        """Return what the mount shows in a folder, by name."""
        return self._many("parent = ? ORDER BY name", (parent,))

    def children_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what the mount shows in a folder behind a name, by name; 8 µs each."""
        return self._many("parent = ? AND name > ? ORDER BY name LIMIT ?", (parent, name, count))

    def count_small_files(self, parent: Ino, most_bytes: int, *, among: int) -> int:
        """Count the files of 1 to so many bytes among the first so many members of a folder."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT folder, size FROM nodes WHERE parent = ? LIMIT ?)"
            " WHERE NOT folder AND size BETWEEN 1 AND ?",
            (parent, among, most_bytes),
        ).fetchone()
        return int(count)

    def placed_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what both views have in a folder, by name, from beyond `name` on."""
        where = "parent = ? AND name > ? AND s_parent = parent AND s_name = name ORDER BY name LIMIT ?"
        return self._many(where, (parent, name, count))

    def moved_after(self, parent: Ino, name: str, count: int) -> list[Node]:
        """Return up to so many of what the server alone has in a folder, by its names, from beyond `name` on."""
        return self._many(
            "moved AND s_parent = ? AND s_name > ? ORDER BY s_name LIMIT ?", (parent, name, count)
        )

    def knows_below(self, ino: Ino, *, more_than: int) -> bool:
        """Tell whether the mount shows more nodes than so many in a folder; 1 µs for each of these."""
        return self._count_below([ino], more_than + 1, ["parent = ?"]) > more_than

    def _count_below(self, tops: list[Ino], most: int, members: Sequence[str]) -> int:
        """Count what is in folders, up to so many, where `members` find what is in one.

        Folder by folder: a recursive statement queues all members of a folder before it counts the second of them.
        """
        count, folders = 0, list(tops)
        for folder in folders:
            for where in members:
                sql = f"SELECT ino, folder FROM nodes WHERE {where} LIMIT ?"
                rows = self._db.execute(sql, (folder, most - count)).fetchall()
                count += len(rows)
                folders += [ino for ino, is_folder in rows if is_folder]
            if count >= most:
                break
        return count

    def members_after(self, parent: Ino, name: str, count: int) -> list[tuple[Ino, str, int, int]]:
        """Return inode, name, `folder` and `local_only` of up to so many behind a name; 1 µs each."""
        sql = "SELECT ino, name, folder, local_only FROM nodes WHERE parent = ? AND name > ? ORDER BY name LIMIT ?"
        return self._db.execute(sql, (parent, name, count)).fetchall()

    def child_inos(self, parent: Ino, most: int = -1) -> array[int]:
        """Return the inodes that the mount shows in a folder, by name, up to so many (-1: all); 8 bytes each."""
        sql = "SELECT ino FROM nodes WHERE parent = ? ORDER BY name LIMIT ?"
        return array("q", (ino for (ino,) in self._db.execute(sql, (parent, most))))

    def get_many(self, inos: Sequence[int]) -> dict[int, Node]:
        """Return those of the nodes that still exist."""
        marks = ",".join("?" * len(inos))
        return {node.ino: node for node in self._many(f"ino IN ({marks})", tuple(inos))}

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

    def count_children(self, parent: Ino) -> int:
        """Count what the mount shows in a folder; 0.02 µs each."""
        (count,) = self._db.execute("SELECT count(*) FROM nodes WHERE parent = ?", (parent,)).fetchone()
        return int(count)

    def has_children(self, parent: Ino) -> bool:
        """Tell whether the mount shows anything in a folder."""
        return (
            self._db.execute("SELECT 1 FROM nodes WHERE parent = ? LIMIT 1", (parent,)).fetchone() is not None
        )

    def dirty(self) -> list[Node]:
        """Return every node with work for the server, oldest change first."""
        return self._many("dirty ORDER BY ctime_ns", ())

    def dirty_after(self, ino: Ino, count: int) -> list[Node]:
        """Return up to so many nodes with work for the server, in the order of their inodes, from beyond `ino` on."""
        return self._many("dirty AND ino > ? ORDER BY ino LIMIT ?", (ino, count))

    def has_moved(self, parent: Ino) -> bool:
        """Tell whether the server has anything in a folder that the mount shows elsewhere, or no more."""
        sql = "SELECT 1 FROM nodes WHERE moved AND s_parent = ? LIMIT 1"
        return self._db.execute(sql, (parent,)).fetchone() is not None

    def busy_folders(self) -> set[Ino]:
        """Return the folders with work for the server below them, here or there; 0.1 µs per dirty node."""
        shown = "SELECT DISTINCT parent FROM nodes INDEXED BY nodes_busy WHERE dirty AND parent IS NOT NULL"
        there = "SELECT DISTINCT s_parent FROM nodes INDEXED BY nodes_busy_there WHERE dirty AND s_parent IS NOT NULL"
        return self._folders_above(shown, "parent") | self._folders_above(there, "s_parent")

    def has_work_in(self, folder: Ino) -> bool:
        """Tell whether anything that the mount shows in a folder has work for the server."""
        sql = "SELECT 1 FROM nodes INDEXED BY nodes_busy WHERE dirty AND parent = ? LIMIT 1"
        return self._db.execute(sql, (folder,)).fetchone() is not None

    def left_folders(self) -> set[Ino]:
        """Return the folders that something shown elsewhere has yet to leave on the server; 0.1 µs for each such."""
        elsewhere = (
            "SELECT DISTINCT s_parent FROM nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL"
            " AND NOT (local_only AND parent = s_parent)"
        )
        return self._folders_above(elsewhere, "s_parent")

    def is_shown_in_part(self, folder: Ino) -> bool:
        """Tell whether the mount shows anything elsewhere that the server has in a folder which was removed here.

        0.2 µs for each node in it, where anything at all has yet to leave its place on the server.
        """
        elsewhere = "nodes INDEXED BY nodes_leaving WHERE moved AND parent IS NOT NULL"
        if self._db.execute(f"SELECT 1 FROM {elsewhere} LIMIT 1").fetchone() is None:
            return False
        sql = (
            "WITH RECURSIVE there(ino) AS (VALUES (?) UNION SELECT nodes.ino FROM there"
            " CROSS JOIN nodes INDEXED BY nodes_moved ON s_parent = there.ino WHERE moved AND folder)"
            f" SELECT 1 FROM there WHERE EXISTS (SELECT 1 FROM {elsewhere} AND s_parent = there.ino) LIMIT 1"
        )
        return self._db.execute(sql, (folder,)).fetchone() is not None

    def _folders_above(self, nearest: str, parent: str) -> set[Ino]:
        rows = self._db.execute(
            f"WITH RECURSIVE up(ino) AS (SELECT * FROM ({nearest}) WHERE {parent} UNION"
            f" SELECT {parent} FROM nodes JOIN up USING (ino) WHERE {parent}) SELECT ino FROM up"
        )
        return {ino for (ino,) in rows}

    def count_synced(self, most: int) -> int:
        """Count what the server is known to have, the root left out, up to so many; 50 ms for a million."""
        (count,) = self._db.execute(
            "SELECT count(*) - 1 FROM (SELECT 1 FROM nodes WHERE s_parent IS NOT NULL LIMIT ?)", (most + 1,)
        ).fetchone()
        return int(count)

    def stale_folders(self) -> list[Ino]:
        """Return the known folders that hold something on the server that was not seen, by inode."""
        rows = self._db.execute(
            "SELECT ino FROM nodes INDEXED BY nodes_stale"
            " WHERE folder AND parent IS NOT NULL AND s_parent IS NOT NULL"
            " AND listed_at IS NOT NULL AND s_etag IS NOT listed_etag"
        )
        return [Ino(ino) for (ino,) in rows]

    def is_seen_whole(self, ino: Ino) -> bool:
        """Tell whether a folder and all above it were listed as they last were heard to be; 22 µs at depth 5."""
        (gaps,) = self._db.execute(
            "WITH RECURSIVE up(ino) AS (VALUES (?)"
            " UNION ALL SELECT s_parent FROM nodes JOIN up USING (ino) WHERE s_parent)"
            " SELECT count(*) FROM up LEFT JOIN nodes USING (ino)"
            " WHERE listed_at IS NULL OR listed_etag IS NULL OR s_etag IS NOT listed_etag",
            (ino,),
        ).fetchone()
        return not gaps

    def is_all_listed(self) -> bool:
        """Tell whether the members of all folders that the mount shows and the server has are known."""
        sql = "SELECT 1 FROM nodes INDEXED BY nodes_unlisted WHERE folder AND s_parent IS NOT NULL"
        sql += " AND parent IS NOT NULL AND NOT ifnull(listed_at, 0) LIMIT 1"
        return self._db.execute(sql).fetchone() is None

    def listed_folders(self) -> list[Ino]:
        """Return the folders of the server whose members are known, in the order of their inodes."""
        sql = "SELECT ino FROM nodes WHERE folder AND s_parent IS NOT NULL AND listed_at IS NOT NULL ORDER BY ino"
        return [Ino(ino) for (ino,) in self._db.execute(sql)]

    def count_synced_from(self, ino: Ino, most: int) -> int:
        """Count a node and everything that the server is known to have below it, up to so many; 1 µs each."""
        placed = "parent = ? AND s_parent = parent AND s_name = name"
        return 1 + self._count_below([ino], most - 1, [placed, "moved AND s_parent = ?"])

    def knows_in_folders(self, ino: Ino, *, more_than: int) -> bool:
        """Tell whether more nodes than so many are known in the folders of a folder; 1 µs for each of these."""
        sql = "SELECT ino FROM nodes WHERE parent = ? AND folder AND listed_at IS NOT NULL LIMIT ?"
        listed = [Ino(it) for (it,) in self._db.execute(sql, (ino, more_than + 1))]
        count = len(listed)
        return count + self._count_below(listed, more_than + 1 - count, ["parent = ?"]) > more_than

    def mount_roots(self, parent: Ino) -> list[Node]:
        """Return the roots of shares and other storages that the mount shows in a folder."""
        return self._many("parent = ? AND mount_root", (parent,))

    def orphans(self) -> list[Node]:
        """Return nodes that neither the mount nor the server has: unlinked ones that were open at a crash."""
        return self._many("parent IS NULL AND s_parent IS NULL AND t_parent IS NULL", ())

    def tried(self) -> list[Node]:
        """Return the nodes that requests put somewhere on the server whose outcome is not known (yet)."""
        return self._many("t_parent IS NOT NULL", ())

    def tried_child(self, parent: Ino, name: str) -> Node | None:
        """Return the node that such a request may have put under a name."""
        return self._one("t_parent IS NOT NULL AND t_parent = ? AND t_name = ?", (parent, name))

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

    # Writing

    def next_version(self) -> ContentVersion:
        """Draw a number for a new content; never drawn twice from one database, not even after a power cut."""
        return self.next_versions(1)[0]

    def next_versions(self, count: int) -> list[ContentVersion]:
        """Draw so many, in 5 µs. In the transaction that uses them: undone with that, they are drawn again."""
        (last,) = self._db.execute(
            "UPDATE meta SET value = value + ? WHERE key = 'sequence' RETURNING value", (count,)
        ).fetchone()
        return [ContentVersion(number) for number in range(last - count + 1, last + 1)]

    def last_version(self) -> ContentVersion:
        """Return the number that was drawn last: later ones are greater. Writes nothing."""
        (last,) = self._db.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
        return ContentVersion(last)

    def last_ino(self) -> Ino:
        """Return the number of the node that was added last, be it still there or not: later ones are greater."""
        (last,) = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'nodes'").fetchone()
        return Ino(last)

    def insert(self, **columns: Any) -> Ino:  # noqa: ANN401  # column values
        """Add a node and return its new inode number; errors as `Database.execute`."""
        names = ", ".join(columns)
        marks = ", ".join(f":{name}" for name in columns)
        cursor = self._db.execute(f"INSERT INTO nodes ({names}) VALUES ({marks})", columns)
        ino = Ino(cursor.lastrowid or 0)
        self._tell([ino])
        return ino

    def update(self, ino: Ino, **columns: Any) -> None:  # noqa: ANN401  # column values
        """Set columns of one node; another place in the mount takes back an answer about its deletion."""
        if not columns.keys() <= _SETTABLE:
            msg = f"no such columns: {columns.keys() - _SETTABLE}"
            raise ValueError(msg)
        if "parent" in columns:
            columns["meant"] = 0
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        self._db.execute(f"UPDATE nodes SET {assignments} WHERE ino = :ino", {**columns, "ino": ino})
        self._tell([ino])

    def _tell(self, inos: Iterable[Ino]) -> None:
        for changed in self._watchers:
            changed.update(inos)

    def is_in_doubt(self, ino: Ino) -> bool:
        """Tell whether a request of unknown outcome may have moved a node, or a folder above it on the server."""
        if self._db.execute(_ANY_TRIED).fetchone() is None:
            return False  # as nearly always
        above = (self.get(it) for it in (ino, *self.synced_ancestors(ino)))
        return any(node is not None and node.tried is not None for node in above)

    def names_in_doubt(self, folder: Ino) -> set[str]:
        """Return the names in a folder on the server that nodes in doubt had, or may have by now."""
        return {
            name
            for node in self.tried()
            for parent, name in ((node.s_parent, node.s_name), (node.t_parent, node.t_name))
            if parent == folder and name is not None
        }

    def begin_try(self, ino: Ino, place: tuple[Ino, str]) -> None:
        """Note a request, before it is sent, that puts a node somewhere on the server."""
        self.update(ino, t_parent=place[0], t_name=place[1], t_looked=0)

    def looked(self, ino: Ino) -> None:
        """Nothing was found where it was tried: the same may be tried again."""
        self.update(ino, t_looked=1)

    def end_try(self, ino: Ino) -> None:
        """Its outcome is known."""
        self.update(ino, t_parent=None, t_name=None, t_looked=0)

    def forget_synced(self, ino: Ino) -> None:
        """Make a node one that the server never had: it will be created there anew."""
        self.update(ino, **_UNSYNCED)

    def set_local_only(self, inos: Iterable[Ino], value: bool) -> None:  # noqa: FBT001  # a column's value
        """Set whether nodes never go up; of those that change, it takes back an answer about their deletion."""
        marked = list(inos)
        self._db.executemany(
            "UPDATE nodes SET meant = meant AND local_only = ?1, local_only = ?1 WHERE ino = ?2",
            [(int(value), ino) for ino in marked],
        )
        self._tell(marked)

    def mean_leaving(self) -> list[Ino]:
        """Mark that all of `leaving` is to go from the server, too, and return it; 2 µs each."""
        sql = f"UPDATE nodes SET meant = 1 WHERE ino IN ({LEAVING}) RETURNING ino"
        marked = [Ino(ino) for (ino,) in self._db.execute(sql).fetchall()]
        self._tell(marked)
        return marked

    def delete(self, ino: Ino) -> None:
        """Remove a row. The caller made sure that no byte depends on it."""
        self._db.execute("DELETE FROM nodes WHERE ino = ?", (ino,))
        self._tell([ino])
