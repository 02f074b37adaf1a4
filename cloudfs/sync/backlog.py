"""How much of the work for the server lies below a path, counted in parts: a backlog may be large."""

from __future__ import annotations

from collections.abc import Callable

import trio

from cloudfs.paths import is_below, join
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import Ino, RemotePath

__all__ = ["count_below"]

_PART = 256
"""Nodes between two checkpoints: 2 ms on the loop."""


async def count_below(nodes: Nodes, path: str, held_back: Callable[[Node], bool]) -> int:
    """Count the changes at or below a path of the mount, or of what the server has there; not those held back.

    Everything else goes on meanwhile, so it is the count of no single moment.
    """
    places = _Places(nodes, path)
    count, last = 0, Ino(0)
    while part := nodes.dirty_after(last, _PART):
        count += sum(places.hold(node) and not held_back(node) for node in part)
        last = part[-1].ino
        await trio.lowlevel.checkpoint()
    return count


class _Places:
    """Tells which nodes lie below a path. Each folder's own path is computed once: that is 50 µs of a node's 60."""

    def __init__(self, nodes: Nodes, path: str) -> None:
        self._nodes = nodes
        self._path = path
        self._shown: dict[Ino, RemotePath | None] = {}
        self._synced: dict[Ino, RemotePath | None] = {}

    def hold(self, node: Node) -> bool:
        # The root takes everything, also what is deleted here and has no path in the mount any more.
        if self._path == "/":
            return True
        return self._is_below(self._shown, self._nodes.local_path, node.parent, node.name) or self._is_below(
            self._synced, self._nodes.synced_path, node.s_parent, node.s_name
        )

    def _is_below(
        self,
        known: dict[Ino, RemotePath | None],
        path_of: Callable[[Ino], RemotePath | None],
        folder: Ino | None,
        name: str | None,
    ) -> bool:
        if not folder or name is None:
            return False
        if folder not in known:
            known[folder] = path_of(folder)
        above = known[folder]
        return above is not None and is_below(join(above, name), self._path)
