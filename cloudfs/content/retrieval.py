"""Gets back the bytes of a version that is not at its path any more: another client has moved or replaced it.

    by its file id    it was moved, and is still what it was: GET with its ETag at its new path; or it was only given
                      another time, and so another ETag: with a checksum that fits
    old versions,     it was replaced or removed, and the server keeps what it was: only with a checksum that fits
    trash

An old version is named by a time in seconds, and of several contents of one second only one is kept. So without a
checksum nothing proves that what comes is what was edited, and it is not taken.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from cloudfs.concurrency.threads import in_read_thread
from cloudfs.content import checksums
from cloudfs.content.source import Source
from cloudfs.errors import Changed, Forbidden, NotFound, Unsupported
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.types import Ino, Octets, RemotePath, RemoteVersion

__all__ = ["Retrieval", "Take"]

_log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024 * 1024
"""All of it is fetched, in one request that begins anew where it breaks."""

Take = Callable[[int, bytes], Awaitable[None]]
"""Is given bytes of a version, and where in it they begin."""


class Retrieval:
    """Fetches versions of one account's files from where else the server has them."""

    def __init__(self, store: Store, remote: Remote) -> None:
        self._store = store
        self._nodes = store.nodes
        self._remote = remote

    async def bring(self, lost: Source, take: Take) -> bool:
        """Give all bytes of a version to `take`; tell whether they are surely that version's: else none may count.

        They may be given several times, from the start. Raises RemoteError where it may be had later.
        """
        if not 0 < lost.size <= _MOST_BYTES:
            return False
        return await self._bring_moved(lost, take) or await self._bring_replaced(lost, take)

    async def _bring_moved(self, lost: Source, take: Take) -> bool:
        file_id = self._file_id(lost.ino)
        if file_id is None:
            return False
        for path in await self._remote.find(file_id):
            expect = await self._as_named_now(lost, path)
            if expect and await self._fits(lost, self._remote.stream(path, 0, lost.size, expect), take):
                return True
        return False

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

    async def _bring_replaced(self, lost: Source, take: Take) -> bool:
        file_id = self._file_id(lost.ino)
        if file_id is None or not checksums.can_check(lost.remote.checksum):
            return False
        return await self._fits(lost, self._remote.stream_old(file_id, lost.remote), take)

    def _file_id(self, ino: Ino) -> str | None:
        """Return the file id of what a file was edited from: a conflicted copy's other version has it."""
        if (origin := self._store.origin(ino)) is not None:
            return origin
        theirs = [it.theirs for it in self._store.conflicts() if it.ours == ino]
        nodes = map(self._nodes.get, [ino, *theirs])
        return next(
            (node.s_file_id for node in nodes if node is not None and node.s_file_id is not None), None
        )

    async def _fits(
        self, lost: Source, opening: AbstractAsyncContextManager[AsyncIterator[Octets]], take: Take
    ) -> bool:
        said = lost.remote.checksum or ""
        digest = checksums.begin(said) if checksums.can_check(said) else None
        at = 0
        try:
            async with opening as chunks:
                async for chunk in chunks:
                    await take(at, bytes(chunk))
                    at += len(chunk)
                    if digest is not None:
                        await in_read_thread(digest.update, chunk)
        except (NotFound, Changed, Forbidden, Unsupported) as error:
            _log.debug("inode %d: what it was edited from is not there: %s", lost.ino, error)
            return False
        return at == lost.size and (digest is None or checksums.spelled(said, digest).lower() == said.lower())
