"""Writing rows of `nodes`. No decisions here: callers say which columns become what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cloudfs.store.db import Database
from cloudfs.store.listed import Listed
from cloudfs.store.outstanding import LEAVING, Outstanding
from cloudfs.store.records import Node
from cloudfs.store.tries import Tries
from cloudfs.types import ContentVersion, Ino

__all__ = ["Nodes"]

_SETTABLE = frozenset(Node.__struct_fields__) - {"ino", "folder", "dirty"}
_UNSYNCED = dict.fromkeys(
    "s_parent s_name s_version s_mtime_ns s_etag s_size s_modified_s s_checksum s_file_id permissions"
    " listed_etag s_spelling".split()
) | {"mount_root": 0, "meant": 0}


class Nodes(Outstanding, Listed, Tries):
    """The tree's rows: what writes them, above all that is asked about them. Draws the numbers of contents, too."""

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

    def _tell(self, inos: Iterable[Ino]) -> None:
        for changed in self._watchers:
            changed.update(inos)
