"""Known folders anew, many in one request: what an upload into hundreds of new folders, or another client's, asks for.

Each is taken over as if it had been listed by itself (`metadata/trees` says what else holds), and only those that were
asked for: folders that nobody has seen stay unseen.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import trio

from cloudfs.concurrency.times import Times
from cloudfs.errors import RemoteError, Unsupported
from cloudfs.metadata.touched import TouchLog
from cloudfs.remote.protocol import Remote
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, Kind, RemoteEntry, RemotePath

__all__ = ["Renewed", "Renewer", "folders_in"]

_log = logging.getLogger(__name__)

_NODES_EACH = 30
"""Of a tree, for each folder in it that is asked for: more would cost more than its own listing does."""
_RESTS_S = 300.0
"""How long a tree that was refused, or took too long, is not asked for again."""
_MOST_REMEMBERED = 1000

_Folder = tuple[RemoteEntry, Sequence[RemoteEntry]]


class _Lister(Protocol):
    def wants(self, node: Node, asked_at: float, *, stale: bool = False) -> bool: ...

    def is_ours_alone(self, ino: Ino) -> bool: ...

    async def take_over(
        self,
        ino: Ino,
        path: RemotePath,
        folder: _Folder,
        touched: Mapping[Ino, set[str]],
        asked_at: float,
    ) -> None: ...


class Renewed(NamedTuple):
    """What became of folders that were asked for together."""

    taken: set[Ino]
    """Their members are known anew, or are just being asked for."""
    bare: set[Ino]
    """They are there, and shown without members: empty, or deeper than the server goes."""


class Renewer:
    """Finds trees with much in them that is to be listed anew."""

    def __init__(self, store: Store, remote: Remote, touches: TouchLog, lister: _Lister) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._touches = touches
        self._lister = lister
        self._failed = Times[Ino](_MOST_REMEMBERED)
        """When a tree could not be had."""

    async def renew(self, folders: Collection[Ino], *, few: int, nodes_each: int = _NODES_EACH) -> Renewed:
        """Ask for those that lie together, more than `few` in one tree; all others are left to the caller.

        `nodes_each`: how many objects may come with each of them.
        """
        renewed, left = Renewed(set(), set()), set(folders)
        if len(left) <= few or not self._remote.features.depth_infinity:
            return renewed
        below: defaultdict[Ino, set[Ino]] = defaultdict(set)
        for ino in folders:
            for above in (ino, *self._nodes.synced_ancestors(ino)):
                below[above].add(ino)
        # Of two with the same in them the lower one was met first, and stays the first.
        for top in sorted(below, key=lambda it: len(below[it]), reverse=True):
            wanted = below[top] & left
            most = nodes_each * len(wanted)
            if len(wanted) > few and await self._is_worth(top, most):
                left -= wanted
                await self._ask(top, wanted, 2 * most, renewed)
        return renewed

    async def _is_worth(self, top: Ino, most: int) -> bool:
        """Tell whether a tree has little else in it, and nothing that was never seen or lies in another storage."""
        node = self._nodes.get(top)
        if node is None or "M" in (node.permissions or "") or self._failed.age_s(top) < _RESTS_S:
            return False
        count = 0
        with self._store.db.snapshot() as rows:
            for page in rows.synced_below(top):
                inside = (self._nodes.get(ino) for ino, is_folder in page if is_folder)
                if any(it is None or it.listed_at is None or it.mount_root for it in inside):
                    return False
                count += len(page)
                if count > most:
                    return False
                await trio.lowlevel.checkpoint()
        return True

    async def _ask(self, top: Ino, wanted: Collection[Ino], most: int, renewed: Renewed) -> None:
        path = self._nodes.synced_path(top)
        if path is None:
            return
        try:
            # INVARIANT: the touch log is open from before the request until the last folder is taken over.
            with self._touches.listing() as touched:
                asked_at = trio.current_time()
                tree = await self._remote.list_tree(path, most=most)
                await self._merge((top, path), tree, wanted, touched, asked_at, renewed)
        except RemoteError as error:
            if isinstance(error, Unsupported) and error.status is None:
                # One level came: nothing is further down, or nothing of that is told.
                renewed.bare.update(wanted)
                return
            _log.debug("folders are listed one by one: %s", error)
            self._failed.note(top)

    async def _merge(
        self,
        top: tuple[Ino, RemotePath],
        tree: Sequence[_Folder],
        wanted: Collection[Ino],
        touched: Mapping[Ino, set[str]],
        asked_at: float,
        renewed: Renewed,
    ) -> None:
        """Take over what is wanted. A folder comes before those in it, which are found by their names."""
        inos = {top[1]: top[0]}
        shown = dict[RemotePath, RemoteEntry]()
        for folder in tree:
            ino = inos.pop(folder[0].path, None)
            if ino is not None:
                await self._take_over(ino, folder, wanted, touched, asked_at)
                renewed.taken.add(ino)
                inos |= folders_in(self._nodes, ino, folder[1], touched.get(ino, set()))
                shown |= {entry.path: entry for entry in folder[1]}
        for path, ino in inos.items():
            # The topmost one is shown in no other, and left out itself where not all in it is known.
            entry = shown.get(path)
            if entry is not None and self._is_empty(ino, entry):
                await self._take_over(ino, (entry, ()), wanted, touched, asked_at)
                renewed.taken.add(ino)
            else:
                renewed.bare.update({ino}.intersection(wanted))

    async def _take_over(
        self,
        ino: Ino,
        folder: _Folder,
        wanted: Collection[Ino],
        touched: Mapping[Ino, set[str]],
        asked_at: float,
    ) -> None:
        node = self._nodes.get(ino)
        if ino in wanted and node is not None and self._lister.wants(node, asked_at, stale=True):
            await self._lister.take_over(ino, folder[0].path, folder, touched, asked_at)
        else:
            await trio.lowlevel.checkpoint()

    def _is_empty(self, ino: Ino, entry: RemoteEntry) -> bool:
        """Tell whether a folder that is shown without members has none: one of ours into which nothing has gone yet.

        Nextcloud goes down by one level or to the end (protocol.md §2.3, §15.2), and this tree goes by two.
        """
        local = (
            self._remote.features.nextcloud and not entry.mount_root and "M" not in (entry.permissions or "")
        )
        return local and self._lister.is_ours_alone(ino) and not self._nodes.synced_children(ino)


def folders_in(
    nodes: Nodes, folder: Ino, members: Sequence[RemoteEntry], touched: Collection[str]
) -> Iterator[tuple[RemotePath, Ino]]:
    """Find the nodes of a folder's folders: those that surely are what a listing shows under their names."""
    for entry in members:
        if entry.kind is not Kind.FOLDER or entry.name in touched:
            continue
        node = nodes.synced_child(folder, entry.name)
        if node is not None and node.folder and node.s_file_id == entry.file_id:
            yield entry.path, node.ino
