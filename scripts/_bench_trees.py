"""A store with many nodes, as a mount leaves it: what the measurements begin with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cloudfs.store.store import Store
from cloudfs.types import ROOT, ContentVersion, Ino

__all__ = ["FOLDERS", "Tree", "columns_of", "edited", "removed", "renamed", "touched"]

_NS = 10**9
_T0_S = 1_700_000_000
FOLDERS = 100


def columns_of(name: str, parent: Ino, *, folder: bool, synced: bool, version: int) -> dict[str, object]:
    """Return a row: a file of 4 KiB or a listed folder, known to the server or not."""
    columns: dict[str, object] = {
        "parent": parent,
        "name": name,
        "folder": int(folder),
        "size": 0 if folder else 4096,
        "mtime_ns": _T0_S * _NS,
        "ctime_ns": _T0_S * _NS,
        "version": version,
    }
    if synced:
        columns |= {
            "s_parent": parent,
            "s_name": name,
            "s_version": version,
            "s_mtime_ns": _T0_S * _NS,
            "s_etag": f"etag of {name}",
            "s_size": columns["size"],
            "s_modified_s": _T0_S,
            "s_file_id": f"{parent}.{name}",
            "permissions": "RGDNVCK" if folder else "RGDNVW",
        }
    if folder:
        columns["listed_at"] = time.time()
    return columns


class Tree:
    """A store with folders and files, as a mount leaves it."""

    def __init__(self, path: Path, files: int, *, synced: bool) -> None:
        self.store = Store(path)
        self.files: list[Ino] = []
        nodes = self.store.nodes
        with self.store.transaction():
            nodes.update(ROOT, listed_at=time.time())
            self.folders = [
                nodes.insert(**columns_of(f"folder {n}", ROOT, folder=True, synced=synced, version=0))
                for n in range(FOLDERS)
            ]
            for n in range(files):
                parent = self.folders[n % FOLDERS]
                version = nodes.next_version()
                columns = columns_of(f"file {n}", parent, folder=False, synced=synced, version=version)
                self.files.append(nodes.insert(**columns))

    def change(self, change: Callable[[int, Ino], dict[str, object]]) -> None:
        """Set columns of every file."""
        with self.store.transaction():
            for n, ino in enumerate(self.files):
                self.store.nodes.update(ino, **change(n, ino))


def edited(_n: int, ino: Ino) -> dict[str, object]:
    return {"version": ContentVersion(1_000_000 + ino)}


def renamed(n: int, _ino: Ino) -> dict[str, object]:
    return {"name": f"renamed {n}"}


def removed(_n: int, _ino: Ino) -> dict[str, object]:
    return {"parent": None}


def touched(_n: int, _ino: Ino) -> dict[str, object]:
    return {"mtime_ns": (_T0_S + 5) * _NS}
