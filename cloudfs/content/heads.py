"""Fetches the beginnings of a folder's larger files ahead of a program that looks at one after the other.

Such a program makes thumbnails, or looks for types and tags: each file is closed after its head (`readahead.Habit`),
and the next one by name comes after it. From the third on the next few are asked for while it works on one; they stay
in memory, since no whole block of them is there. What nobody reads of that counts as all that is fetched ahead does.
"""

from __future__ import annotations

from collections.abc import Callable

from cloudfs.content.fetch import Fetcher
from cloudfs.content.prefetch_budget import Ledger
from cloudfs.content.source import Source
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import BLOCK_SIZE, Ino

__all__ = ["HeadWalk"]

_FEWEST = 2
"""So many files have to follow each other: a file manager that shows one's properties is no walk."""
_AHEAD = 4
"""Two requests at the same time, and two that wait for their turn."""


class HeadWalk:
    """The latest walk of an account; two at the same time get nothing ahead."""

    def __init__(
        self, nodes: Nodes, fetcher: Fetcher, ledger: Ledger, version: Callable[[Node], Source | None]
    ) -> None:
        """`version` gives what the server has of a node; None where that is not what the mount shows."""
        self._nodes = nodes
        self._fetcher = fetcher
        self._ledger = ledger
        self._version = version
        self._latest: tuple[Ino, str] | None = None
        self._run = 0

    def begins(self, source: Source, now: float, *, rests: bool) -> None:
        """A program reads the first bytes of a file larger than a block; `rests`: nothing may be asked for."""
        node = self._nodes.get(source.ino)
        if node is None or node.parent is None:
            return
        self._ledger.read(source.ino, here=self._fetcher.has_head(source))
        place, latest = (node.parent, node.name), self._latest
        if place == latest:
            return
        follows = latest is not None and latest[0] == place[0] and latest[1] < place[1]
        self._run = self._run + 1 if follows and self._fetcher.reads_heads else 0
        self._latest = place
        if self._run >= _FEWEST and not rests:
            self._ask_for_next(*place, now)

    def _ask_for_next(self, folder: Ino, name: str, now: float) -> None:
        room_bytes = self._ledger.room_bytes(folder, now)
        for node in self._nodes.children_after(folder, name, _AHEAD):
            source = self._version(node)
            if source is None or source.size <= BLOCK_SIZE or self._fetcher.has_head(source):
                continue
            room_bytes -= self._fetcher.head_bytes
            if room_bytes < 0:
                return
            self._ledger.take(source.ino, folder, self._fetcher.head_bytes, now)
            self._ledger.requested()
            self._fetcher.prefetch_head(source)
