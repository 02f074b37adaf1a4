"""Gives back the disk space of files that the server has and that are not to be here."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.content.fetch import Fetcher
from cloudfs.store.store import Store
from cloudfs.sync.kept import KeptWalker
from cloudfs.sync.pinned import PinKeeper
from cloudfs.types import Ino

__all__ = ["Freed", "Freer"]


class Freed(msgspec.Struct, frozen=True):
    """What was given back."""

    files: int
    bytes: int
    changed: int
    """Files that stayed as they are: they have changes that the server does not have yet."""


class Freer:
    """One account's."""

    def __init__(
        self, store: Store, keeper: PinKeeper, walker: KeptWalker, fetcher: Fetcher, blocks: BlockStore
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._walker = walker
        self._fetcher = fetcher
        self._blocks = blocks

    async def free(self, ino: Ino, told: Callable[[Freed], None]) -> Freed:
        """Drop the cached blocks of all at or below a node that is not to be kept; no byte that the server lacks.

        `told` hears what was freed so far.
        """
        files = freed = changed = 0
        left = [ino]
        while left:
            at = left.pop()
            node = self._store.nodes.get(at)
            if node is None or not node.linked:
                continue
            if node.folder:
                left += map(Ino, await self._store.child_inos(at))
            elif node.content_dirty:
                changed += 1
            elif (source := self._walker.source(node)) is not None and not self._keeper.keeps(node):
                here = source.size - self._fetcher.missing_bytes(source)
                if here:
                    await self._blocks.drop(source.ino, source.version)
                    files, freed = files + 1, freed + here
                    told(Freed(files, freed, changed))
            await trio.lowlevel.checkpoint()
        return Freed(files, freed, changed)
