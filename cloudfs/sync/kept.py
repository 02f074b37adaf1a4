"""Counts what is to be kept here: walks over the folders that are, and tells what of it is missing.

A walk looks at the database and at the index of cached blocks; folders whose members nobody has seen are asked for
where the caller wants that. 20 µs a file, with a checkpoint every 64 (3 ms).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from cloudfs.blocks.evictor import OVERHEAD_BYTES
from cloudfs.content.fetch import Fetcher
from cloudfs.content.source import Source
from cloudfs.metadata.pinning import Stand
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.pinned import PinKeeper, Root
from cloudfs.types import BLOCK_SIZE, Ino, Pin

__all__ = ["Kept", "KeptWalker"]

_PAGE = 64
"""So many nodes are looked at between two checkpoints: 3 ms."""


@dataclass
class Kept:
    """What one walk found."""

    files: int = 0
    """That are to be here."""
    bytes: int = 0
    missing_files: int = 0
    """Of these, some of whose bytes are not here."""
    missing_bytes: int = 0
    waiting: int = 0
    """Files that have to be looked at again: they are changed here, or another version there was not taken over yet."""
    unknown_folders: int = 0
    """Folders of which nobody knows what is in them."""
    missing: list[Ino] = field(default_factory=list)
    """The first of the files that miss something, members of one folder one after the other."""

    @property
    def cached_bytes(self) -> int:
        """Return about what the blocks that are here take of the cache."""
        here = self.bytes - self.missing_bytes
        return here + self.files * OVERHEAD_BYTES + here // BLOCK_SIZE * OVERHEAD_BYTES if here else 0


class KeptWalker:
    """Looks for one account. `is_another_there`: a listing showed another version of a file, not taken over."""

    def __init__(
        self,
        store: Store,
        keeper: PinKeeper,
        fetcher: Fetcher,
        *,
        is_another_there: Callable[[Ino], bool],
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._fetcher = fetcher
        self._is_another_there = is_another_there

    async def count(
        self,
        roots: Iterable[Root],
        *,
        most_missing: int = 0,
        know: Callable[[Node], Awaitable[None]] | None = None,
    ) -> Kept:
        """Walk from some roots down. `know` is called with each folder before its members are looked at.

        A folder of which something else is said meanwhile, or of one above, is not walked: a server may list folders
        without end, and whoever says so has a new walk made.
        """
        kept = Kept()
        for root in roots:
            await self._walk(root, kept, most_missing, know)
        return kept

    def source(self, node: Node) -> Source | None:
        """Return the server's version of a file where that is what the mount shows; else None."""
        if node.folder or not node.synced or node.version != node.s_version:
            return None
        if self._is_another_there(node.ino):
            return None
        return Source(node.ino, node.version, node.remote_version)

    async def _walk(
        self, root: Root, kept: Kept, most_missing: int, know: Callable[[Node], Awaitable[None]] | None
    ) -> None:
        pins, nodes = self._store.pins.all(), self._store.nodes
        left = [root]
        while left:
            at = left.pop()
            node = nodes.get(at.ino) if self._holds(at) else None
            if node is None or not node.linked or node.local_only:
                continue
            if not node.folder:
                self._look(node, at.stand, kept, most_missing)
                continue
            if know is not None:
                await know(node)
            node = nodes.get(at.ino)
            if node is not None and node.synced and not node.listed_at:
                kept.unknown_folders += 1
            below: list[Root] = []
            last = ""
            while page := nodes.children_after(at.ino, last, _PAGE):
                last = page[-1].name
                for child in page:
                    stand = _reached(at.stand, child, pins.get(child.ino))
                    if stand is None or child.local_only:
                        continue
                    if child.folder:
                        below.append(Root(child.ino, stand))
                    else:
                        self._look(child, stand, kept, most_missing)
                await trio.lowlevel.checkpoint()
            left += reversed(below)

    def _holds(self, at: Root) -> bool:
        """Tell whether what was said of a node when the walk came to it is what holds for it now."""
        stand = self._keeper.stand(at.ino)
        return stand is not None and stand.said is at.stand.said

    def _look(self, node: Node, stand: Stand, kept: Kept, most_missing: int) -> None:
        if not stand.keeps(self._keeper.defaults, node.size):
            return
        kept.files += 1
        kept.bytes += node.size
        if not node.size:
            return
        source = self.source(node)
        if source is None:
            kept.waiting += 1
            return
        missing_bytes = self._fetcher.missing_bytes(source)
        if missing_bytes:
            kept.missing_files += 1
            kept.missing_bytes += missing_bytes
            if len(kept.missing) < most_missing:
                kept.missing.append(node.ino)


def _reached(above: Stand, child: Node, said: Pin | None) -> Stand | None:
    """Return what holds for a member of a folder that is walked; None where it is not kept, or reached as a root."""
    stand = above.below(child.ino, child.name, said)
    return stand if said is None or said is above.said else None
