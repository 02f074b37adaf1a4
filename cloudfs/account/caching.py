"""Clearing the block cache at a person's word, and checking that what it holds is what the server has.

Both leave alone what changed files were made from: these bytes may be the last of a version that another client has
replaced, and are needed until the change is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import trio

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.content import checksums
from cloudfs.control.records import Checked
from cloudfs.engine import Engine
from cloudfs.ranges import blocks_of
from cloudfs.store.records import Node
from cloudfs.types import ContentVersion, Ino

__all__ = ["CacheWork"]

_PART = 100
_TELL_S = 0.5


class CacheWork:
    """Work on the block cache of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._blocks = engine.blocks
        self._files = self._bytes = self._compared = self._damaged = 0
        self._wrong: list[str] = []

    async def clear(self) -> None:
        """Drop every block but those that changed files need, and those that are to stay in any case."""
        self._engine.fetcher.forget()
        async for ino, version, _ in self._versions():
            if not self._engine.store.staged_of(ino) and not self._blocks.is_exempt(ino, version):
                await self._blocks.drop(ino, version)

    async def verify(self, tell: Callable[[object], Awaitable[None]]) -> Checked:
        """Read all of it, and compare whole files with the server's checksums; drop what does not fit."""
        told_s = trio.current_time()
        async for ino, version, count in self._versions():
            await self._check(ino, version, count)
            if trio.current_time() - told_s >= _TELL_S:
                await tell(self._checked())
                told_s = trio.current_time()
        self._engine.hydrator.wake()  # what was dropped and is always to be here comes again
        return self._checked()

    def _checked(self) -> Checked:
        return Checked(self._files, self._bytes, self._compared, [*self._wrong], self._damaged)

    async def _versions(self) -> AsyncIterator[tuple[Ino, ContentVersion, int]]:
        last = 0, 0
        while part := self._blocks.versions_after(last, _PART):
            for ino, version, count in part:
                yield ino, version, count
            last = part[-1][:2]
            await trio.lowlevel.checkpoint()

    async def _check(self, ino: Ino, version: ContentVersion, count: int) -> None:
        node = self._engine.store.nodes.get(ino)
        if node is None or node.s_version != version or node.s_size is None:
            return  # of a version that nobody will ask for any more: it goes by itself
        said = self._said(node, version) if count == len(blocks_of(0, node.s_size)) else None
        digest = None if said is None else checksums.begin(said)
        self._files += 1
        came = 0
        # What is there, and not all that the server says there is: that may be a million terabytes.
        for index in self._blocks.held(ino, version):
            block = await self._blocks.examine(ino, version, index)
            if block is None:
                self._damaged += self._is_current(node)
                digest = None
                continue
            came += len(block)
            self._bytes += len(block)
            if digest is not None:
                await in_read_thread(digest.update, block)
        if digest is None or said is None or came != node.s_size:
            return
        self._compared += 1
        if checksums.spelled(said, digest).lower() != said.lower():
            await self._drop(node, version)

    def _said(self, node: Node, version: ContentVersion) -> str | None:
        """Return the checksum to compare with; None of one that is known to be wrong: the same came twice."""
        known = {(doubt.ino, doubt.version) for doubt in self._engine.fetcher.doubts() if doubt.served}
        can_check = checksums.can_check(node.s_checksum) and (node.ino, version) not in known
        return node.s_checksum if can_check else None

    def _is_current(self, node: Node) -> bool:
        """Tell whether the file is still that version: else its blocks were dropped in good order."""
        now = self._engine.store.nodes.get(node.ino)
        return now is not None and now.s_version == node.s_version

    async def _drop(self, node: Node, version: ContentVersion) -> None:
        if self._engine.store.staged_of(node.ino) or not self._is_current(node):
            return
        self._wrong.append(self._engine.tree.path(node.ino) or node.name)
        self._engine.fetcher.forget()
        await self._blocks.drop(node.ino, version)
        self._engine.sink.node_changed(node.ino, content=True)
