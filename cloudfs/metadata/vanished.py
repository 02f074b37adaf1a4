"""Clean nodes that a listing found gone, kept for a moment: another folder's listing may show where they went.

A move between two folders is seen as a removal and something new, at two different times. By its file id the node is
recognised: it keeps its inode, its cached blocks and its open handles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cloudfs.metadata.residents import Residents
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["KEEP_S", "Vanished", "can_follow"]

KEEP_S = 30.0
_MOST = 1000
"""So many are kept at once: memory stays bounded."""
_AT_ONCE = 100
"""So many are given up in one transaction: 10 ms."""


def can_follow(node: Node) -> bool:
    """Tell whether a file with work for the server, or a folder, can be followed: it was not moved here as well."""
    return (
        bool(node.folder or node.dirty)
        and node.placed
        and not node.local_only
        and node.tried is None
        and node.s_file_id is not None
    )


class Vanished:
    """In memory: after a restart the rows are orphans, and are collected. NO CHECKPOINT anywhere here."""

    def __init__(self, store: Store, residents: Residents, discard: Callable[[Ino], None]) -> None:
        self._store = store
        self._nodes = store.nodes
        self._residents = residents
        self._discard = discard
        self._kept: dict[str, tuple[Node, float]] = {}
        self._expected: dict[str, tuple[Ino, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    def keep(self, node: Node) -> None:
        """Hold a node that is about to lose its name, if it can be recognised and nothing is to be done about it."""
        file_id = node.s_file_id
        if (
            file_id is None
            or file_id in self._kept
            or node.dirty
            or not node.placed
            or len(self._kept) >= _MOST
        ):
            return
        self._kept[file_id] = node, time.monotonic()
        self._residents.remember(node.ino)

    def expect(self, nodes: Iterable[Node]) -> None:
        """Have what has work for the server, or a folder of such, gone from its place, recognised where it went."""
        now = time.monotonic()
        self._expected = {key: known for key, known in self._expected.items() if known[1] > now - KEEP_S}
        for node in nodes:
            if node.s_file_id is not None and can_follow(node):
                self._expected[node.s_file_id] = node.ino, now

    def find(self, entry: RemoteEntry) -> Node | None:
        """Return the node as it was, if what is listed now is what vanished; the caller gives it its new place."""
        ino, since = self._expected.get(entry.file_id or "", (Ino(0), 0.0))
        expected = self._nodes.get(ino) if since > time.monotonic() - KEEP_S else None
        if expected is not None and can_follow(expected) and expected.kind is entry.kind:
            return expected
        node, _ = self._kept.get(entry.file_id or "", (None, 0.0))
        current = None if node is None else self._nodes.get(node.ino)
        if node is None or current is None or current.kind is not entry.kind:
            return None
        gone_on = current.linked or current.synced or current.tried or current.version != node.version
        return None if gone_on else node

    def found(self, node: Node) -> None:
        """It has a place again."""
        self._expected.pop(node.s_file_id or "", None)
        if self._kept.pop(node.s_file_id or "", None) is not None:
            self._residents.forget(node.ino, 1)

    def expire(self) -> bool:
        """Let go of what vanished a while ago, up to a number; tell whether there is more."""
        since = time.monotonic() - KEEP_S
        old = [node for node, at in self._kept.values() if at <= since]
        with self._store.transaction():
            for node in old[:_AT_ONCE]:
                self._let_go(node)
        return len(old) > _AT_ONCE

    def _let_go(self, node: Node) -> None:
        del self._kept[node.s_file_id or ""]
        current = self._nodes.get(node.ino)
        if not self._residents.forget(node.ino, 1) or current is None:
            return
        if not (current.linked or current.synced or current.tried):
            self._discard(node.ino)
            self._nodes.delete(node.ino)
