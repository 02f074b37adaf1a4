"""What another client moved to another folder, with work for the server or with known members: all of it goes along.

Such a file is gone from one folder's listing and new in another's, and the edit would be sent as a new file under the
old name; a folder would be made again there for what is to be sent in it, or stays on this machine, and what is known
in a clean one would be forgotten. Its file id tells where it is. Without file ids, that is what happens.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from enum import Enum, auto

import trio

from cloudfs.concurrency.slices import turns
from cloudfs.errors import RemoteError, Unreachable
from cloudfs.metadata.merge import Change, Drop
from cloudfs.metadata.vanished import Vanished, can_follow
from cloudfs.paths import parent_of
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino, RemotePath

__all__ = ["Follower", "movable"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
_MOST = 8
"""So many files and folders are looked for at once; further ones are made anew under their old names."""
_MANY = 10_000
"""Changes of which the absences are picked out between two checkpoints: 1 ms."""


async def movable(changes: Iterable[Change], store: Store, coming: Collection[str] = ()) -> list[Node]:
    """Return what would be dropped and is worth looking for: what has work for the server, then known folders.

    All of `coming`, the file ids that are known to be elsewhere; of others not many.
    """
    there: list[Node] = []
    gone: list[Node] = []
    async for part in turns(changes, _MANY):
        for node in (it.node for it in part if isinstance(it, Drop) and can_follow(it.node)):
            (there if node.s_file_id in coming else gone).append(node)
    found: list[Node] = []
    known: list[Node] = []
    for node in gone:
        if node.dirty or await _holds_work(store, node.ino):
            found.append(node)
            if len(found) == _MOST:
                break
        elif len(known) < _MOST and store.nodes.has_children(node.ino):
            known.append(node)
    return there + (found + known)[:_MOST]


async def _holds_work(store: Store, folder: Ino) -> bool:
    """Tell whether a folder has anything in it that the server does not have like that."""
    with store.db.snapshot() as rows:
        for page in rows.work_below(folder):
            if any(work for _, work in page):
                return True
            await trio.lowlevel.checkpoint()
    return False


class _Trace(Enum):
    """What became of something that is gone from its place."""

    SETTLED = auto()
    """It has followed, is two by now, or nobody can tell."""
    NOT_YET = auto()
    NOWHERE = auto()


class Follower:
    """Has files found elsewhere. `list_folder` lists another folder for us, if nobody is at it already."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        vanished: Vanished,
        list_folder: Callable[[Ino, frozenset[str]], Awaitable[object]],
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._vanished = vanished
        self._list_folder = list_folder
        self._waiting: dict[Ino, float] = {}
        """What was found and have not followed yet, and since when (trio time)."""

    async def follow(self, folder: Ino, gone: Iterable[Node], coming: frozenset[str]) -> set[Ino]:
        """Look where things went that a folder's listing lacks, and have them taken over there.

        `coming`: the file ids in the listing. Returns those about which nothing is known yet: they stay as they are.
        Of a folder that is nowhere, it is looked where the things in it went that hold work.
        """
        unknown: set[Ino] = set()
        for top in gone:
            left = deque([top])
            for _ in range(_MOST):
                if not left:
                    break
                node = left.popleft()
                trace = await self._trace(node, folder, coming)
                if trace is _Trace.NOT_YET:
                    unknown.add(top.ino)
                elif trace is _Trace.NOWHERE and node.folder:
                    left += await self._worked_on(node.ino)
        return unknown

    async def _trace(self, node: Node, folder: Ino, coming: frozenset[str]) -> _Trace:
        try:
            paths = await self._remote.find(node.s_file_id or "")
        except Unreachable:
            # Not for ever: a proxy may let everything through but this question.
            return _Trace.NOT_YET if self._may_wait(node.ino) else _Trace.SETTLED
        except RemoteError as error:
            _log.info("%s: nobody can tell where it went: %s", node.name, error)
            return _Trace.SETTLED
        waits = [await self._is_to_come(node, path, folder, coming) for path in paths]
        if any(waits) and self._may_wait(node.ino):
            return _Trace.NOT_YET
        return _Trace.SETTLED if paths else _Trace.NOWHERE

    async def _is_to_come(self, node: Node, path: RemotePath, folder: Ino, coming: frozenset[str]) -> bool:
        """Have something taken over where it is; tell whether it may still follow."""
        target = await self._folder_at(parent_of(path), coming)
        if target is None:
            return True  # in a folder that this very listing, or another one, is about to add
        if target == node.s_parent:
            return False
        self._vanished.expect([node])
        if target == folder:
            return True  # this very listing shows it, as long as what it is in stays
        await self._list_folder(target, coming)
        return self._is_open(node)

    async def _worked_on(self, folder: Ino) -> list[Node]:
        """Return what lies in a folder and holds work, as its folders do that have such in them; not many."""
        found: dict[Ino, Node] = {}
        with self._store.db.snapshot() as rows:
            for page in rows.work_below(folder):
                for ino in (below for below, work in page if work):
                    above = [ino, *self._nodes.synced_ancestors(ino)]
                    node = self._nodes.get(above[above.index(folder) - 1]) if folder in above else None
                    if node is not None and can_follow(node):
                        found[node.ino] = node
                if len(found) >= _MOST:
                    break
                await trio.lowlevel.checkpoint()
        return list(found.values())

    def _may_wait(self, ino: Ino) -> bool:
        """Tell whether it may still follow: somebody else may be listing its folder, or its name there be busy."""
        now = trio.current_time()
        self._waiting = {ino: since for ino, since in self._waiting.items() if now - since < 2 * _PATIENCE_S}
        return now - self._waiting.setdefault(ino, now) < _PATIENCE_S

    def expect(self, gone: Iterable[Node], coming: Collection[str]) -> None:
        """Have things recognised in the listing that waits for this one, where it shows them."""
        self._vanished.expect(node for node in gone if node.s_file_id in coming)

    def _is_open(self, node: Node) -> bool:
        """Tell whether something has neither followed nor been taken for something new in its new place."""
        current = self._nodes.get(node.ino)
        if current is None or current.s_parent != node.s_parent:
            return False
        return all(it.ino == node.ino or not it.synced for it in self._nodes.by_file_id(node.s_file_id or ""))

    async def _folder_at(self, path: RemotePath, coming: frozenset[str]) -> Ino | None:
        """Return the folder at a path on the server, getting to know those above it as needed."""
        folder = ROOT
        for name in filter(None, path.split("/")):
            known = self._nodes.synced_child(folder, name)
            if known is None:
                await self._list_folder(folder, coming)
                known = self._nodes.synced_child(folder, name)
            if known is None or not known.folder:
                return None
            folder = known.ino
        return folder
