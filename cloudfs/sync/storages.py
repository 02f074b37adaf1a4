"""External storages inside an account, each of which may be down by itself: only what lies in it waits.

While one is down, one step below it at a time finds out whether it is back; everything else goes on, and the account
counts as online.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from collections.abc import Set as AbstractSet

import msgspec
import trio

from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["Storages"]

_FIRST_S, _LONGEST_S = 5.0, 300.0


class _Down(msgspec.Struct):
    tries: int
    due: float
    """trio time of the next try."""


class Storages:
    """Back-off without end for each storage that is down. In memory: a restart tries everything at once."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._down: dict[Ino, _Down] = {}

    def failed(self, node: Node) -> None:
        """What a node lies in is down: have it left alone, longer each time."""
        down = self._down.setdefault(self.root_of(node), _Down(0, 0.0))
        if trio.current_time() < down.due:
            return  # of many in one request, each tells the same
        down.tries += 1
        wait_s = min(_FIRST_S * 2.0 ** min(down.tries - 1, 10), _LONGEST_S) * random.uniform(0.5, 1.0)  # noqa: S311
        down.due = trio.current_time() + wait_s

    def answered(self, node: Node) -> None:
        """A step about a node succeeded."""
        if self._down:
            self._down.pop(self.root_of(node), None)

    def retry_all(self) -> None:
        """Somebody waits: each is tried now."""
        for down in self._down.values():
            down.due = 0.0

    def due(self, node: Node) -> float:
        """Return the trio time before which a node is left alone."""
        down = self._down.get(self.root_of(node)) if self._down else None
        return 0.0 if down is None else down.due

    def is_tried(self, node: Node, tried: Callable[[], AbstractSet[Ino]]) -> bool:
        """Tell whether a node's storage is down, and is one of those in which something is under way already."""
        if not self._down:
            return False
        root = self.root_of(node)
        return root in self._down and root in tried()

    def root_of(self, node: Node) -> Ino:
        """Return the nearest mount root above a node; without one, as servers do not always tell, its folder."""
        if node.mount_root:
            return node.ino
        above = self._nodes.synced_ancestors(node.ino) or self._nodes.ancestors(node.ino)
        for ino in above:
            folder = self._nodes.get(ino)
            if folder is not None and folder.mount_root:
                return ino
        return above[0] if above else node.ino
