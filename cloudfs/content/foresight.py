"""Says which small files a program that walks through folders is likely to read next, and which have to be fetched.

INVARIANT: only such are chosen as the mount shows in the very version that the server has, and in its place: for all
others their folder's ETag, as it was listed, says that they are there in just this version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cloudfs.content.source import Source
from cloudfs.content.walking import Walk
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import BLOCK_SIZE, Ino

__all__ = ["Foresight"]

_LOOK_AT = 500
"""So many members of a folder are looked at for its next folders."""


class Foresight:
    """Of one account. NO CHECKPOINT in here."""

    def __init__(
        self,
        nodes: Nodes,
        *,
        is_here: Callable[[Source], bool],
        is_coming: Callable[[Ino], bool],
        is_another_there: Callable[[Ino], bool],
    ) -> None:
        """`is_here`, `is_coming`: it need not be asked for. `is_another_there`: as for `Prefetcher`."""
        self._nodes = nodes
        self._is_here = is_here
        self._is_coming = is_coming
        self._is_another_there = is_another_there

    def next_files(self, walk: Walk, node: Node, most: int) -> Iterator[Node]:
        """Give the files that a walk is likely to read after one: of its folder, then of the next ones beside it."""
        folder = walk.folder
        here = [it for it in self._nodes.children_after(folder, node.name, most) if not it.folder]
        if not walk.ordered and len(here) < most:
            first = self._nodes.children_after(folder, "", most - len(here))
            here += [
                it for it in first if not it.folder and it.name < node.name and not walk.has_read(it.ino)
            ]
        yield from here
        looks = 2 * most
        most -= self._count_missing(here)
        if walk.folders == 1 or most <= 0:
            return  # nothing tells that it will go on there, or there is enough to fetch
        own = self._nodes.get(folder)
        if own is None or own.parent is None:
            return
        for beside in self._nodes.children_after(own.parent, own.name, _LOOK_AT):
            if not beside.folder:
                continue
            there = self._nodes.children_after(beside.ino, "", most + 1)
            missing = self._count_missing(there)
            looks -= max(1, len(there))
            if missing > most or looks < 0:
                return  # it is for later: a part of it now is a request more then
            most -= missing
            yield from (it for it in there if not it.folder)

    def wanted(self, nodes: Iterator[Node], room_bytes: int) -> Iterator[Source]:
        """Leave out what need not be fetched, and what there is no room for."""
        for node in nodes:
            source = self._missing(node)
            if source is None:
                continue
            room_bytes -= source.size
            if room_bytes < 0:
                return
            yield source

    def _count_missing(self, nodes: Sequence[Node]) -> int:
        return sum(self._missing(node) is not None for node in nodes)

    def _missing(self, node: Node) -> Source | None:
        """Return the version of a small file that would have to be fetched; None where there is no need, or no way."""
        if self._is_coming(node.ino) or not 0 < node.size <= BLOCK_SIZE or not _is_servers(node):
            return None
        source = Source(node.ino, node.version, node.remote_version)
        # Most are here already: what is asked of the database comes last.
        return None if self._is_here(source) or self._is_another_there(node.ino) else source

    def source(self, node: Node) -> Source | None:
        """Return a small file's version on the server; None where what the mount shows is another one, or elsewhere."""
        return self.version(node) if 0 < node.size <= BLOCK_SIZE else None

    def version(self, node: Node) -> Source | None:
        """Do as `source` for a file of any size."""
        if not _is_servers(node) or self._is_another_there(node.ino):
            return None
        return Source(node.ino, node.version, node.remote_version)


def _is_servers(node: Node) -> bool:
    """Tell whether the mount shows a file as the server has it, as far as its row tells."""
    return not node.folder and not node.dirty and node.placed and node.version == node.s_version
