"""Reading very many rows as they were at one moment, a page at a time, while everything else goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["Snapshot"]

_COLUMNS = ", ".join(Node.__struct_fields__)
_NODES = 256
"""Whole rows a page: 2 ms on the loop."""
_SHORT = 1000
"""Rows of a few columns: as long."""
_PLACED = "s_parent IS parent AND s_name IS name"


class Snapshot:
    """The nodes at one moment, on a connection of its own. Made by `Database.snapshot`; pages end with that.

    Whoever takes the next page has awaited a checkpoint after the last one; rows may be other ones by then. Statements
    must not skip many rows: what is to be left out is left out by the caller, or a page takes as long as all of them.
    """

    def __init__(
        self, db: sqlite3.Connection, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._db = db
        self._translated = translated
        self._reading: set[sqlite3.Cursor] = set()
        self._ended = False

    def end(self) -> None:
        """Let go of what was not read to its end, which would hold the WAL as it was, and give no more."""
        self._ended = True
        for cursor in self._reading:
            cursor.close()

    def members(self, parent: Ino) -> Iterator[list[Node]]:
        """Give what the mount shows in a folder."""
        return self._nodes("parent = ?", parent)

    def moved_members(self, parent: Ino) -> Iterator[list[Node]]:
        """Give what the server has in a folder and the mount shows elsewhere, or no more."""
        return self._nodes("moved AND s_parent = ?", parent)

    def child_inos(self, parent: Ino) -> Iterator[list[int]]:
        """Give the inodes that the mount shows in a folder, by name."""
        for page in self._pages("SELECT ino FROM nodes WHERE parent = ? ORDER BY name", (parent,), _SHORT):
            yield [ino for (ino,) in page]

    def synced_names(self, parent: Ino) -> Iterator[list[str]]:
        """Give the names that the server has in a folder."""
        for sql in (
            "SELECT iif(s_parent = parent, s_name, NULL) FROM nodes WHERE parent = ?",
            "SELECT s_name FROM nodes WHERE moved AND s_parent = ?",
        ):
            for page in self._pages(sql, (parent,), _SHORT):
                yield [name for (name,) in page if name is not None]

    def synced(self) -> Iterator[list[int]]:
        """Give of every node, the root among them, whether the server is known to have it."""
        for page in self._pages("SELECT s_parent IS NOT NULL FROM nodes", (), _SHORT):
            yield [there for (there,) in page]

    def synced_below(self, ino: Ino) -> Iterator[list[tuple[Ino, int]]]:
        """Give inode and `folder` of everything that the server has below a folder, folders before their members."""
        for page in self._walk(ino, _PLACED, moved=True):
            yield [(below, folder) for below, folder, there, _ in page if there]

    def work_below(self, ino: Ino) -> Iterator[list[tuple[Ino, int]]]:
        """Give of everything in a folder, here or on the server, whether it holds work for the server.

        That is: whether it is to be sent, or never will be.
        """
        for page in self._walk(ino, "1", moved=True, more="dirty OR s_parent IS NULL"):
            yield [(below, work) for below, _, _, work in page]

    def clean_files_below(self, ino: Ino, *, shown: bool) -> Iterator[list[Ino]]:
        """Give the files in a folder, here (`shown`) or on the server, whose bytes the mount shows as that has them."""
        where = "1" if shown else _PLACED
        clean = "parent IS NOT NULL AND NOT folder AND size > 0 AND version IS s_version"
        for page in self._walk(ino, where, moved=not shown, more=clean):
            yield [below for below, _, there, is_clean in page if there and is_clean]

    def _walk(
        self, top: Ino, placed: str, *, moved: bool, more: str = "0"
    ) -> Iterator[list[tuple[Ino, int, int, int]]]:
        """Give inode, `folder`, whether it belongs to it, and `more`, folder by folder.

        `placed` says which of the nodes that the mount shows in a folder belong to it; what was `moved` out of it may.
        A recursive statement would find all before it gives the first.
        """
        places = [("parent = ?", placed), *([("moved AND s_parent = ?", "1")] if moved else [])]
        folders, seen = [top], {top}
        for above in folders:
            for where, belongs in places:
                sql = f"SELECT ino, folder, {belongs}, {more} FROM nodes WHERE {where}"
                for page in self._pages(sql, (above,), _SHORT):
                    new = {ino for ino, folder, there, _ in page if folder and there} - seen
                    folders += new
                    seen |= new
                    yield page

    def _nodes(self, where: str, parent: Ino) -> Iterator[list[Node]]:
        for page in self._pages(f"SELECT {_COLUMNS} FROM nodes WHERE {where}", (parent,), _NODES):
            yield [Node(*row) for row in page]

    def _pages(self, sql: str, parameters: tuple[Any, ...], size: int) -> Iterator[list[Any]]:
        if self._ended:  # the connection may be another snapshot's by now
            msg = "a snapshot ends with its block"
            raise RuntimeError(msg)
        with self._translated():
            cursor = self._db.execute(sql, parameters)
        self._reading.add(cursor)
        while True:
            with self._translated():
                page = cursor.fetchmany(size)
            if not page:
                self._reading.discard(cursor)
                return
            yield page
