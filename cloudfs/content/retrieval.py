"""Gets back the bytes of a version that is not at its path any more: another client has moved or replaced it.

    by its file id    it was moved, and is still what it was: GET with its ETag at its new path; or it was only given
                      another time, and so another ETag: with a checksum that fits
    old versions      it was replaced, and the server keeps what it was: with a checksum that fits; without one, where
                      it is the one content of that file with the same time and size, as below
    trash             it was removed, by itself or with a folder: only with a checksum that fits

An old version is named by a time in seconds, and of several contents of one second only one is kept. So what comes
without a checksum is as well proved as by Nextcloud's own ETag, which is made of file, time and size, and by nothing
more, provided that the version was seen when its second was over (`etags.may_have_a_double`): then nobody has
written another one in that second, unless by setting its time on purpose. All blocks that are here of the
version are compared with what comes besides. The trash tells no time of a content, so there nothing is proved.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.content import checksums
from cloudfs.content.source import BlockCache, Source
from cloudfs.errors import Changed, Forbidden, NotFound, Unsupported
from cloudfs.ranges import blocks_of
from cloudfs.remote.etags import may_have_a_double
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.types import BLOCK_SIZE, Ino, Octets, RemotePath, RemoteVersion

__all__ = ["Retrieval", "Take"]

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024 * 1024
"""All of it is fetched, in one request that begins anew where it breaks."""

Take = Callable[[int, bytes], Awaitable[None]]
"""Is given bytes of a version, and where in it they begin."""

_Opening = AbstractAsyncContextManager[AsyncIterator[Octets]]


class Retrieval:
    """Fetches versions of one account's files from where else the server has them."""

    def __init__(self, store: Store, remote: Remote, blocks: BlockCache) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote
        self._blocks = blocks

    async def bring(self, lost: Source, seen_there_s: float | None, take: Take) -> bool:
        """Give all bytes of a version to `take`; tell whether they are surely that version's: else none may count.

        They may be given several times, from the start. `seen_there_s`: when the server was seen to have it, in Unix s
        by its clock; None: not known. Raises RemoteError where it may be had later.
        """
        file_id = self._file_id(lost.ino)
        if file_id is None or not 0 < lost.size <= _MOST_BYTES:
            return False
        for path in await self._remote.find(file_id):
            expect = await self._as_named_now(lost, path)
            if expect and await self._fits(lost, self._remote.stream(path, 0, lost.size, expect), take):
                return True
        provable = checksums.can_check(lost.remote.checksum)
        if not provable and may_have_a_double(lost.remote.modified_s, seen_there_s):
            return False
        if await self._fits(lost, self._remote.stream_old(file_id, lost.remote), take):
            return True
        removed = self._remote.stream_removed(file_id, lost.size, self._folders(lost.ino))
        return provable and await self._fits(lost, removed, take)

    async def _as_named_now(self, lost: Source, path: RemotePath) -> RemoteVersion | None:
        """Return how the server names what may be the version, None where it is another one for sure."""
        try:
            found = (await self._remote.stat(path)).version
        except NotFound:
            return None
        if found.etag and found.etag == lost.remote.etag:
            return lost.remote
        provable = found.size == lost.size and checksums.can_check(lost.remote.checksum)
        return found if provable else None

    def _file_id(self, ino: Ino) -> str | None:
        """Return the file id of what a file was edited from: a conflicted copy's other version has it."""
        if (origin := self._store.origin(ino)) is not None:
            return origin
        theirs = [it.theirs for it in self._store.conflicts() if it.ours == ino]
        nodes = map(self._nodes.get, [ino, *theirs])
        return next(
            (node.s_file_id for node in nodes if node is not None and node.s_file_id is not None), None
        )

    def _folders(self, ino: Ino) -> set[str]:
        """Return the names of the folders that a file is in here, or was in on the server."""
        paths = (self._nodes.synced_path(ino), self._nodes.local_path(ino))
        return {name for path in paths if path for name in path.split("/")[:-1] if name}

    async def _fits(self, lost: Source, opening: _Opening, take: Take) -> bool:
        said = lost.remote.checksum or ""
        digest = checksums.begin(said) if checksums.can_check(said) else None
        known = _Known(self._blocks, lost)
        at = 0
        try:
            async with opening as chunks:
                async for chunk in chunks:
                    data = bytes(chunk)
                    if not await known.agrees(at, data):
                        return False
                    await take(at, data)
                    at += len(chunk)
                    if digest is not None:
                        await in_read_thread(digest.update, chunk)
        except (NotFound, Changed, Forbidden, Unsupported) as error:
            _log.debug("inode %d: what it was edited from is not there: %s", lost.ino, error)
            return False
        return at == lost.size and (digest is None or checksums.spelled(said, digest).lower() == said.lower())


class _Known:
    """What is here of a version, one block at a time."""

    def __init__(self, blocks: BlockCache, source: Source) -> None:
        self._blocks = blocks
        self._source = source
        self._index = -1
        self._block: bytes | None = None

    async def agrees(self, at: int, chunk: bytes) -> bool:
        """Tell whether nothing that is here speaks against `chunk` being the version's bytes from `at` on."""
        for index in blocks_of(at, at + len(chunk)):
            if index != self._index:
                self._index = index
                self._block = await self._blocks.get(self._source.ino, self._source.version, index)
            if self._block is None:
                continue
            first = max(at, index * BLOCK_SIZE)
            last = min(at + len(chunk), (index + 1) * BLOCK_SIZE)
            here = self._block[first - index * BLOCK_SIZE : last - index * BLOCK_SIZE]
            if here != chunk[first - at : last - at]:
                return False
        return True
