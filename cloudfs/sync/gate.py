"""The one door to the server: every request passes here, so that its outcome is known in one place.

After a 401 nothing is sent any more (protocol.md §11: every failed login slows down everybody behind the same
address), until somebody logs in again or asks for another try. What waits for a free connection by then is held back
as well. What is on the wire already cannot be recalled, so after a while without an answer one request goes alone.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TypeVar

import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import Changed, Maintenance, RemoteError, Throttled, Unavailable, Unreachable
from cloudfs.paths import ROOT_PATH
from cloudfs.remote.protocol import (
    Admitting,
    Body,
    Condition,
    Features,
    NewFile,
    Pushed,
    Remote,
    Space,
    Unlimited,
)
from cloudfs.sync.connectivity import Connectivity
from cloudfs.sync.pausing import Pause
from cloudfs.sync.sending import Uploads
from cloudfs.types import Annotations, Octets, RemoteEntry, RemotePath, RemoteVersion, Stored

__all__ = ["GatedRemote"]

T = TypeVar("T")

_SMALL_BYTES = 64 * 1024
"""An upload of that size is answered about as soon as any other request."""

_GOOD_S = 1.0
"""Bulk uploads bring the password, which a Nextcloud takes 0.5 to 1.8 s to refuse (measured). A second one begins
beside the first only where something else was answered well so lately. With half as long, 300 files cost three requests
more on a busy machine (measured)."""


class GatedRemote:
    """A `Remote` that tells `Connectivity` what became of each request; see `remote.protocol` for the methods."""

    def __init__(self, remote: Remote, connectivity: Connectivity) -> None:
        self._remote = remote
        self._connectivity = connectivity
        self.spent: Callable[[int | None], None] = lambda _: None
        """Told after each change how many bytes more the account holds by it; None: some, or somebody else's."""
        self.freed: Callable[[], None] = lambda: None
        """Told when something of unknown size was removed."""
        self.pause: Pause | None = None
        """What breaks uploads off."""
        self.goes_in_pieces: Callable[[str], bool] = lambda _: False
        """Told the name of an upload (see `put`), whether it is on its way in pieces at the moment."""
        self.uploads = Uploads()
        self.changes = 0
        """How many changes the server has answered well."""
        self._bulks = 0
        """Bulk uploads under way."""
        self._good_at = -math.inf
        """trio time of the last good answer, but for those to bulk uploads: long before, the password was good."""
        self._root_etag: str | None = None
        if isinstance(remote, Admitting):
            remote.admit_by(connectivity.check_login, connectivity.refused)

    @property
    def features(self) -> Features:
        """What the server can do."""
        return self._remote.features

    @property
    def clock_skew_s(self) -> float:
        """How far the server's clock is ahead of ours."""
        return self._remote.clock_skew_s

    async def connect(self) -> Features:
        """Ask the server what it is."""
        return await self._told(self._remote.connect())

    async def stat(self, path: RemotePath) -> RemoteEntry:
        """PROPFIND with depth 0."""
        entry = await self._told(self._remote.stat(path))
        self._saw(entry)
        return entry

    async def space(self) -> Space | Unlimited | None:
        """Ask what the account may still store."""
        return await self._told(self._remote.space())

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        """PROPFIND with depth 1."""
        own, members = await self._told(self._remote.list_folder(path))
        self._saw(own)
        return own, members

    def _saw(self, entry: RemoteEntry) -> None:
        """Where the root's ETag tells of changes below it, another one means that something was."""
        if entry.path != ROOT_PATH or entry.version.etag == self._root_etag:
            return
        if self._root_etag is not None:
            self.spent(None)
        self._root_etag = entry.version.etag

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        """PROPFIND with depth infinity."""
        return await self._large(self._remote.list_tree(path, most=most, begun=begun))

    async def _large(self, request: Awaitable[T]) -> T:
        """Ask a large question. That it takes too long, or too much, says nothing about smaller ones.

        But that the server wants to be left alone does.
        """
        try:
            async with self._connectivity.asking() as answered:
                try:
                    result = await request
                except (Maintenance, Throttled):
                    raise
                except (Unreachable, Unavailable) as error:
                    failure = error
                else:
                    answered()
                    return result
        finally:
            # A coroutine that the login check kept from starting must not warn that nobody awaited it.
            getattr(request, "close", lambda: None)()
        raise failure

    async def find(self, file_id: str) -> Sequence[RemotePath]:
        """SEARCH for a file id."""
        return await self._told(self._remote.find(file_id))

    async def get_range(self, path: RemotePath, start: int, stop: int, expect: RemoteVersion) -> bytes:
        """GET a range."""
        return await self._told(self._remote.get_range(path, start, stop, expect))

    def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """GET a long range in pieces."""
        return self._opened(self._remote.stream(path, start, stop, expect))

    def stream_old(
        self, file_id: str, expect: RemoteVersion
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """GET an old content of a file."""
        return self._opened(self._remote.stream_old(file_id, expect))

    def stream_removed(
        self, file_id: str, size: int, folders: Collection[str]
    ) -> AbstractAsyncContextManager[AsyncIterator[Octets]]:
        """GET a file from the trash."""
        return self._opened(self._remote.stream_removed(file_id, size, folders))

    async def read_archive(self, folder: RemotePath, sizes: Mapping[str, int]) -> Mapping[str, bytes]:
        """GET a zip of small files."""
        return await self._large(self._remote.read_archive(folder, sizes))

    async def put(
        self,
        path: RemotePath,
        body: Body,
        size: int,
        condition: Condition,
        *,
        mtime_s: int | None = None,
        checksum: str | None = None,
        name: str | None = None,
        base_bytes: int = 0,
    ) -> Stored:
        """Send a whole file, or its tail."""

        def may_break() -> bool:
            # A part of an overwrite may become the file (protocol.md §6), for as long as the pause lasts.
            whole = self.features.nextcloud and condition.absent
            return whole or (name is not None and self.goes_in_pieces(name))

        breakable = (
            nullcontext() if self.pause is None else self.pause.sending.breakable(path, may_break=may_break)
        )
        with breakable, self.uploads.counted(path, body, size, base_bytes) as counted:
            await self._prove_login(size - base_bytes)
            stored = await self._changed(
                self._remote.put(
                    path,
                    counted,
                    size,
                    condition,
                    mtime_s=mtime_s,
                    checksum=checksum,
                    name=name,
                    base_bytes=base_bytes,
                )
            )
        self.spent(size - (0 if condition.version is None else condition.version.size))
        return stored

    async def have_hashed(self, path: RemotePath, expect: RemoteVersion) -> str | None:
        """PATCH."""
        return await self._changed(self._remote.have_hashed(path, expect))

    async def put_bulk(
        self, files: Sequence[NewFile], *, still: Callable[[], bool] = lambda: True
    ) -> Sequence[Stored | None]:
        """POST many new files, if they are `still` to be sent once they may; else Changed, unsent."""
        await self._prove_login(sum(len(file.content) for file in files))
        if self._bulks and trio.current_time() - self._good_at > _GOOD_S:
            began = trio.current_time()
            await self._ask_first()
            if trio.current_time() - began > _GOOD_S:
                raise _outdated()  # a look into the folder is good for a moment
        self._bulks += 1
        try:
            stored = await self._told(self._remote.put_bulk(files), patient=True, proves=False, still=still)
        finally:
            self._bulks -= 1
        self.changes += any(stored)
        self.spent(sum(len(file.content) for file, made in zip(files, stored, strict=True) if made))
        return stored

    async def make_folder(self, path: RemotePath, *, mtime_s: int | None = None) -> Stored:
        """MKCOL."""
        return await self._changed(self._remote.make_folder(path, mtime_s=mtime_s))

    async def move(
        self, source: RemotePath, target: RemotePath, *, expect: RemoteVersion | None = None
    ) -> Stored:
        """MOVE."""
        return await self._changed(self._remote.move(source, target, expect=expect))

    async def copy(self, source: RemotePath, target: RemotePath) -> Stored:
        """COPY."""
        stored = await self._changed(self._remote.copy(source, target))
        self.spent(None)
        return stored

    async def delete(self, path: RemotePath, *, expect: RemoteVersion | None = None) -> None:
        """DELETE."""
        await self._changed(self._remote.delete(path, expect=expect))
        if expect is None:
            self.freed()
        self.spent(None if expect is None else -expect.size)

    async def set_mtime(
        self, path: RemotePath, mtime_s: int, *, expect: RemoteVersion | None = None
    ) -> int | None:
        """PROPPATCH the time."""
        return await self._changed(self._remote.set_mtime(path, mtime_s, expect=expect))

    async def identify(self, ids: Sequence[str]) -> Sequence[RemoteEntry]:
        """SEARCH by file ids."""
        return await self._told(self._remote.identify(ids))

    async def annotations(self, path: RemotePath) -> Annotations | None:
        """PROPFIND for what changes no ETag."""
        return await self._told(self._remote.annotations(path))

    async def follow_changes(self, connected: Callable[[], None], heard: Callable[[Pushed], None]) -> None:
        """Listen to what the server tells. What becomes of that says nothing about the account's state."""
        self._connectivity.check_login()
        await self._remote.follow_changes(connected, heard)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._remote.aclose()

    async def _prove_login(self, size: int) -> None:
        """Before a large upload have a small request go ahead, where one has to: nobody is to wait for the other."""
        if size > _SMALL_BYTES and self._connectivity.unproven:
            await self._ask_first()

    async def _ask_first(self) -> None:
        try:
            await self.stat(ROOT_PATH)
        except RemoteError as error:
            error.unsent = True  # what it was to go ahead of
            raise

    async def _changed(self, request: Awaitable[T]) -> T:
        """Send a change: no program waits for it."""
        result = await self._told(request, patient=True)
        self.changes += 1
        return result

    async def _told(
        self,
        request: Awaitable[T],
        *,
        patient: bool = False,
        proves: bool = True,
        still: Callable[[], bool] = lambda: True,
    ) -> T:
        begun = False
        try:
            async with self._connectivity.asking(patient=patient) as answered:
                if still():
                    begun = True
                    result = await request
                    answered()
                    self._good_at = trio.current_time() if proves else self._good_at
                    reached(f"{getattr(request, '__name__', '')} answered")
                    return result
        except RemoteError as error:
            error.unsent = error.unsent or not begun
            raise
        finally:
            # A coroutine that the login check kept from starting must not warn that nobody awaited it.
            getattr(request, "close", lambda: None)()
        raise _outdated()

    @asynccontextmanager
    async def _opened(
        self, opening: AbstractAsyncContextManager[AsyncIterator[T]]
    ) -> AsyncIterator[AsyncIterator[T]]:
        async with AsyncExitStack() as stack:
            async with self._connectivity.asking() as answered:
                stream = await stack.enter_async_context(opening)
                answered()
            try:
                yield stream
            except RemoteError as error:
                self._connectivity.failed(error)
                raise


def _outdated() -> Changed:
    error = Changed("it waited until what it relies on was old")
    error.unsent = True
    return error
