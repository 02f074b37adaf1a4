"""Brings changed files of a lost database into its successor, by what their labels say.

A file whose bytes are all there becomes a new file at its path: it goes up like any other, and where the server has
another content by then, both are kept. One that stood on a version of the server's is not guessed at: its bytes are
kept under `recovered`, and the log says so.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from cloudfs.blocks.dirtyfolder import sync_file_system
from cloudfs.blocks.staging import Staging, numbers_of
from cloudfs.content.labels import Label, label, read
from cloudfs.content.recovered import keep_in
from cloudfs.errors import LocalDamage, PosixError
from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino

__all__ = ["Adoption"]


class Adoption:
    """Everything here blocks; it runs at start, before anything else works on the store."""

    def __init__(
        self, store: Store, staging: Staging, recovered: Path, stays_local: Callable[[str, Node], bool]
    ) -> None:
        self._store = store
        self._staging = staging
        self._recovered = recovered
        self._stays_local = stays_local

    def adopt(self, lost: Path) -> list[str]:
        """Take over the staging files in the folder `lost`; returns sentences about them. Raises OSError.

        Done again after a crash it finds in the database what it has taken over already.
        """
        told: list[str] = []
        files = sorted((numbers, path) for path in lost.iterdir() if (numbers := numbers_of(path.name)))
        done: set[int] = set()
        waiting: set[int] = set()
        staging = self._staging.beside(lost)
        try:
            # Of each the newest content that is whole; what is older is part of it.
            for (ino, _), path in reversed(files):
                if ino in done | waiting:
                    continue
                try:
                    whole, sentences = self._take(staging, path)
                except PosixError as error:
                    # A sealed file is copied. The mount goes on without it, and what it is waits where it was.
                    whole, sentences = (
                        False,
                        [f"{path}: waits for a start with room to take it over: {error}"],
                    )
                    waiting.add(ino)
                told += sentences
                if whole:
                    done.add(ino)
        finally:
            staging.close()
        self._leave(lost, [path for (ino, _), path in files if ino not in waiting])
        return told

    def _leave(self, lost: Path, taken: list[Path]) -> None:
        # A power cut must not find files gone, and the rows or the new names of their bytes not there yet.
        _sync_all(lost)
        for path in taken:
            path.unlink()
        with contextlib.suppress(OSError):
            lost.rmdir()
        _sync_all(self._staging.path)
        with self._store.transaction():
            for path in taken:
                self._store.put_note(_note_of(path), None)

    def _take(self, lost: Staging, path: Path) -> tuple[bool, list[str]]:
        key = _key(path)
        if self._store.note(_note_of(path)) is not None:
            return True, []
        found = read(lost.label_of(*key))
        if found is not None and found.whole and not _is_short(lost, key, found):
            with contextlib.suppress(LocalDamage):  # some of it does not open: then it is no whole file
                place = self._place(found, lost, path)
                return True, [
                    f"{place}: found again among the changes of a lost database; it is sent as a new file"
                ]
        if path.stat().st_size == 0:
            return False, []
        name = "" if found is None else found.path.rpartition("/")[2]
        target = keep_in(self._recovered, path, name, lost.sealed_as)
        what = "changes of a lost database that are no whole file; they are kept, but not sent"
        return False, [f"{target}: {what}"]

    def _place(self, said: Label, lost: Staging, path: Path) -> str:
        *folders, name = said.path.strip("/").split("/")
        nodes, now = self._store.nodes, time.time_ns()
        with self._store.transaction():
            version = nodes.next_version()
            parent = nodes.get(ROOT)
            assert parent is not None  # noqa: S101  # every database has a root
            for folder in folders:
                parent = self._folder(parent, folder, now)
            name = self._free(parent.ino, name)
            ino = nodes.insert(
                parent=parent.ino,
                name=name,
                folder=0,
                size=said.size,
                mtime_ns=path.stat().st_mtime_ns,
                ctime_ns=now,
                version=version,
                local_only=int(self._stays_local(name, parent)),
            )
            present = RangeSet(said.present)
            # Before the commit: a second name without a row is deleted at the next start, and the first one is still
            # there.
            self._staging.inherit(lost, _key(path), (ino, version), present)
            row = StagedRow(ino, version, said.size, present.pack(), ContentVersion(0), 0, None)
            self._store.put_staged(row)
            # With the row or not at all: the bytes may be in the new folder without one, and a copy looks like any
            # other file.
            self._store.put_note(_note_of(path), "taken over")
        label(self._store, self._staging, row)
        return nodes.local_path(ino) or name

    def _folder(self, parent: Node, name: str, now: int) -> Node:
        nodes = self._store.nodes
        there = nodes.child(parent.ino, name)
        if there is None or not there.folder:
            name = self._free(parent.ino, name)
            local = int(self._stays_local(name, parent))
            ino = nodes.insert(
                parent=parent.ino,
                name=name,
                folder=1,
                mtime_ns=now,
                ctime_ns=now,
                local_only=local,
                listed_at=time.time(),
            )
            there = nodes.get(ino)
        assert there is not None  # noqa: S101  # just found or made
        return there

    def _free(self, parent: Ino, name: str) -> str:
        free, number = name, 1
        while self._store.nodes.child(parent, free) is not None:
            number += 1
            free = f"{name} (recovered {number})"
        return free


def _key(path: Path) -> tuple[Ino, ContentVersion]:
    ino, version = numbers_of(path.name) or (0, 0)
    return Ino(ino), ContentVersion(version)


def _note_of(path: Path) -> str:
    return f"adopted_{path.parent.name}/{path.name}"


def _sync_all(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(descriptor)
    finally:
        os.close(descriptor)


def _is_short(lost: Staging, key: tuple[Ino, ContentVersion], label: Label) -> bool:
    return bool(label.present) and lost.length(*key) < label.present[-1][1]
