"""A tree of nodes in a real store, a server that lists what it is told, and a record of what was announced."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import trio

from cloudfs.errors import NotFound, ProtocolViolation, RemoteError
from cloudfs.metadata.columns import NS
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.merge import merge_folder
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.spreading import Spreading
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import TouchLog
from cloudfs.metadata.tree import Tree
from cloudfs.metadata.trees import Trees
from cloudfs.paths import NameRules, is_below
from cloudfs.remote.protocol import Features, Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, Kind, RemoteEntry, RemotePath, RemoteVersion

__all__ = ["Listings", "Metadata", "Sink", "file", "folder", "open_metadata"]


def file(
    path: str, etag: str = "e", *, size: int = 10, file_id: str | None = None, modified_s: int = 100
) -> RemoteEntry:
    """Return a file as a listing shows it."""
    return RemoteEntry(RemotePath(path), Kind.FILE, RemoteVersion(etag, size, modified_s), file_id)


def folder(path: str, etag: str = "f", *, file_id: str | None = None, modified_s: int = 100) -> RemoteEntry:
    """Return a folder as a listing shows it."""
    return RemoteEntry(RemotePath(path), Kind.FOLDER, RemoteVersion(etag, 0, modified_s), file_id)


@dataclass
class Sink:
    """Remembers announcements."""

    told: list[tuple[str, int, object]] = field(default_factory=list)

    def entry_changed(self, parent: Ino, name: str) -> None:
        self.told.append(("changed", parent, name))

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:
        del ino, kind
        self.told.append(("removed", parent, name))

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        self.told.append(("node", ino, content))

    def take(self) -> list[tuple[str, int, object]]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told


@dataclass
class Listings:
    """The listing part of a Remote. `gate`: a listing waits for it between the server's answer and its arrival."""

    folders: dict[str, tuple[RemoteEntry, list[RemoteEntry]]] = field(default_factory=dict)
    error: RemoteError | None = None
    gate: Callable[[], object] | None = None
    asked: list[str] = field(default_factory=list)
    latency_s: float = 0.1
    clock_skew_s: float = 0.0
    tree_s: float = 0.1
    tree_comes_s: float = 0.0
    """How long a whole tree takes."""
    tree_error: RemoteError | None = None
    leaves_out: set[str] = field(default_factory=set)
    """Folders that a tree does not bring."""
    features: Features = field(default_factory=lambda: Features("WebDAV in memory", depth_infinity=True))

    def set(self, path: str, *members: RemoteEntry, etag: str = "f", file_id: str | None = None) -> None:
        """Say what a folder holds."""
        self.folders[path] = folder(path, etag, file_id=file_id), list(members)

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        """Nothing is anywhere else: what moves here is found by listings alone."""
        del file_id
        return []

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        self.asked.append(path)
        found = self.folders.get(path)
        answer = None if found is None else (found[0], list(found[1]))
        await trio.sleep(self.latency_s)
        if self.gate is not None:
            self.gate()
        if self.error is not None:
            raise self.error
        if answer is None:
            raise NotFound("it does not exist", subject=path, status=404)
        return answer

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        self.asked.append(f"tree {path}")
        found = [
            (own, list(members))
            for own, members in self.folders.values()
            if is_below(own.path, path) and own.path not in self.leaves_out
        ]
        await trio.sleep(self.tree_s)
        begun()
        await trio.sleep(self.tree_comes_s)
        if self.gate is not None:
            self.gate()
        if self.tree_error is not None:
            raise self.tree_error
        if sum(len(members) for _, members in found) > most:
            raise ProtocolViolation("too many", subject=path)
        return found


class Metadata:
    """The room put together."""

    def __init__(self, store: Store, nursery: trio.Nursery | None, *, ttl_s: float = 5.0) -> None:
        self.store = store
        self.nodes = store.nodes
        self.residents = Residents()
        self.sink = Sink()
        self.remote = Listings()
        self.touches = TouchLog()
        self.discarded: list[Ino] = []
        self.changed: list[Ino] = []
        self.displaced = Displaced(store, self.residents, self.sink)
        self.takeover = Takeover(
            store,
            self.residents,
            self.displaced,
            self.sink,
            keeps_mtime=lambda: True,
            discard=self.discarded.append,
            doubt=self.touches.doubt,
        )
        if nursery is not None:
            remote = cast("Remote", self.remote)
            self.lister = Lister(store, remote, self.takeover, self.touches, nursery, ttl_s=ttl_s)
            self.trees = Trees(store, remote, self.touches, self.lister, nursery)
            self.lister.ahead = self.trees
            self.tree = Tree(
                store,
                self.lister,
                self.residents,
                self.displaced,
                rules=NameRules,
                changed=self.changed.append,
                discard=self.discarded.append,
                spreading=Spreading(store, self.changed.append),
            )

    async def merge(
        self, *members: RemoteEntry, parent: Ino = ROOT, touched: frozenset[str] = frozenset()
    ) -> None:
        """Take over a listing of one folder."""
        changes = merge_folder(
            members,
            self.nodes.synced_children(parent),
            {child.name: child for child in self.nodes.children(parent)},
            touched,
        )
        await self.takeover.apply(parent, changes)

    def shown(self, parent: Ino = ROOT) -> dict[str, Node]:
        """Return what the mount shows in a folder."""
        return {node.name: node for node in self.nodes.children(parent)}

    def node(self, ino: Ino) -> Node:
        """Return a node that is there."""
        node = self.nodes.get(ino)
        assert node is not None
        return node

    # Local changes, as programs make them

    def write(self, ino: Ino) -> None:
        """Give a file another content."""
        node = self.node(ino)
        self.nodes.update(
            ino, version=self.nodes.next_version(), size=node.size + 1, mtime_ns=node.mtime_ns + NS
        )

    def create(self, name: str, *, parent: Ino = ROOT, is_folder: bool = False) -> Ino:
        """Make something new."""
        return self.nodes.insert(
            parent=parent,
            name=name,
            folder=int(is_folder),
            version=0 if is_folder else self.nodes.next_version(),
            mtime_ns=7 * NS,
            ctime_ns=7 * NS,
        )

    def unlink(self, ino: Ino) -> None:
        """Remove a name."""
        self.nodes.update(ino, parent=None)
        if not self.node(ino).synced:
            self.nodes.delete(ino)


@asynccontextmanager
async def open_metadata(path: Path, *, ttl_s: float = 5.0) -> AsyncIterator[Metadata]:
    """Give the room with its lister and tree."""
    store = Store(path / "state.sqlite")
    try:
        async with trio.open_nursery() as nursery:
            yield Metadata(store, nursery, ttl_s=ttl_s)
            nursery.cancel_scope.cancel()
    finally:
        store.close()
