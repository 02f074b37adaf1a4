"""Reading and writing the contents of files, whatever they are made of at the moment.

`write` and `truncate` change memory and the staging file; `flush` makes what was acknowledged survive a
killed process (one transaction); `fsync` makes it survive a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from cloudfs.blocks.staging import Staging
from cloudfs.concurrency.keylock import KeyedLock
from cloudfs.concurrency.killpoints import reached
from cloudfs.content.bases import Bases, seen_there_s
from cloudfs.content.disposal import Disposal
from cloudfs.content.fetch import Fetcher
from cloudfs.content.hardening import Hardening
from cloudfs.content.labels import label
from cloudfs.content.layers import FileContent, Layer, Whose, lowest, made_of
from cloudfs.content.loading import Loader
from cloudfs.content.prefetch import Prefetcher
from cloudfs.content.readahead import ReadPattern
from cloudfs.content.source import Source
from cloudfs.errors import Changed, CloudfsError, LocalDamage, PosixError
from cloudfs.store.records import Node, StagedRow
from cloudfs.store.store import Store
from cloudfs.types import Ino, Octets

__all__ = ["Files"]


_log = logging.getLogger(__name__)

_SURE_BYTES = 2**31
"""Every file system of today has files of this size."""
_ROOM_BYTES = 32 * 1024 * 1024
"""What the block cache is asked for beyond the write that did not fit, so that the next ones do."""


def _no_matter(_ino: Ino) -> None:
    pass


async def _no_room(_wanted_bytes: int) -> None:
    pass


class Files:
    """The contents of all inodes. `changed` is told of every inode with new bytes for the server.

    `begun` is told of every inode that is about to be written, in the transaction that prepares it; `make_room` is
    asked to free some disk space before a write is refused for want of it.
    """

    def __init__(
        self,
        store: Store,
        staging: Staging,
        fetcher: Fetcher,
        ahead: Prefetcher,
        *,
        changed: Callable[[Ino], None],
        begun: Callable[[Ino], None] = _no_matter,
        outdated: Callable[[Ino], None] = _no_matter,
        make_room: Callable[[int], Awaitable[None]] = _no_room,
    ) -> None:
        self._store = store
        self._staging = staging
        self._fetcher = fetcher
        self._ahead = ahead
        self._changed = changed
        self._begun = begun
        self._outdated = outdated
        self._make_room = make_room
        self._loader = Loader(store, staging)
        self._live: dict[Ino, FileContent] = {}
        self._acquiring: KeyedLock[Ino] = KeyedLock()
        self.disposal = Disposal(store, staging, self.live, self._harden)
        self.hardening = Hardening(store, staging, self.live, self.disposal.prune)
        self.bases = Bases(store, fetcher, self.live)

    # Who uses a content

    async def acquire(self, node: Node) -> FileContent:
        """Return the content that the node has now; pair with `release`.

        LocalDamage when a staging file that the store knows of is missing.
        """
        async with self._acquiring(node.ino):
            # While we waited for our turn it may have been written and closed: its rows tell what it has now.
            if (live := self._live.get(node.ino)) is not None:
                async with live.lock:
                    pass  # whoever begins a new layer has changed the row already and the content not yet
                self._try_take_back(live)
            node = self._store.nodes.get(node.ino) or node
            content = self._live.get(node.ino)
            if content is None or node.version not in {content.version, content.abandoned}:
                content = FileContent(node.ino, await self._loader.load(node), node.mtime_ns)
                self._live[node.ino] = content
            content.users += 1
            return content

    def release(self, content: FileContent) -> None:
        """Give up a content; flush first what was written."""
        content.users -= 1
        if content.users == 0 and self._live.get(content.ino) is content:
            del self._live[content.ino]

    def live(self, ino: Ino) -> FileContent | None:
        """Return the content of an inode in use: its size and time are newer than the row's."""
        return self._live.get(ino)

    def being_written(self, ino: Ino) -> bool:
        """Tell whether a program still has the file open for writing."""
        content = self._live.get(ino)
        return content is not None and content.writers > 0

    def written_at(self, ino: Ino) -> float | None:
        """Return the trio time of the last write to a file that a program still has open for writing; else None."""
        content = self._live.get(ino)
        return content.written_at if content is not None and content.writers else None

    # Reading

    async def read(
        self, content: FileContent, offset: int, size: int, pattern: ReadPattern | None = None
    ) -> Octets:
        """Return up to `size` bytes at `offset`; fewer only at the end of the file.

        Raises Changed (ESTALE) when bytes of an older version are neither here nor on the server any more.
        """
        look = partial(self._read, content, offset, size, pattern)
        return await content.crossing.read(offset, offset + size, look)

    async def _read(
        self, content: FileContent, offset: int, size: int, pattern: ReadPattern | None
    ) -> Octets:
        while True:
            top, stop = content.top, min(offset + size, content.size)
            if offset >= stop or top is None:
                return b""
            before = made_of(top)
            try:
                if not isinstance(top, Source):
                    return await self.read_version(top, offset, stop, pattern)
                await self._ahead.before_read(top, offset)
                data = await self._fetcher.read(top, offset, stop, pattern)
                self._ahead.after_read(top, stop)
                return data
            except Changed:
                # Our own upload may have replaced the version below; before it did, its bytes were copied up.
                if made_of(content.top) == before:
                    self._outdated(content.ino)
                    raise
            except LocalDamage:
                # Cut while we read, or sent and turned into blocks: look again. Anything else is real damage.
                if made_of(content.top) == before:
                    raise

    async def read_version(
        self, source: Layer | Source, start: int, stop: int, pattern: ReadPattern | None = None
    ) -> bytes:
        """Return exactly [start, stop) of one content version."""
        parts: list[bytes] = []
        while start < stop:
            # Looked at anew each time: what a layer lacks may be copied up meanwhile, and its base given up.
            found, last, whose = lowest(source, start, stop)
            if isinstance(found, Source):
                parts.append(bytes(await self._fetcher.read(found, start, last, pattern)))
            elif whose is Whose.OWN:
                parts.append(await found.file.pread(start, last - start))
            else:
                parts.append(bytes(last - start))
            start = last
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # Writing

    async def write(self, content: FileContent, offset: int, data: bytes) -> int:
        """Take all of `data` at `offset`, or fail with ENOSPC or EFBIG and keep what was there."""
        with content.crossing.writing(offset, offset + len(data)):
            async with content.lock:
                layer = await self._writable(content)
                await self.write_into(layer, offset, data)
                reached("bytes written")
                # NO CHECKPOINT: the bytes count from here on, all of them.
                layer.present.add(offset, offset + len(data))
                layer.size = max(layer.size, offset + len(data))
                self._wrote(content, layer)
        return len(data)

    async def write_into(self, layer: Layer, offset: int, data: bytes) -> None:
        """Write bytes that do not count yet. The block cache gives way before the disk is called full."""
        try:
            await layer.file.pwrite(offset, data)
        except PosixError as error:
            if error.errno != errno.ENOSPC:
                raise
            await self._make_room(len(data) + _ROOM_BYTES)
            with contextlib.suppress(CloudfsError, OSError):
                await self.disposal.bury()
            await layer.file.pwrite(offset, data)

    async def truncate(self, content: FileContent, size: int) -> None:
        """Cut or extend with zeros; cutting to nothing never fetches anything."""
        if size < 0:
            raise PosixError(errno.EINVAL, "a negative size")
        async with content.lock:
            if size == content.size and (not size or isinstance(content.top, Layer | None)):
                return
            layer = await self._writable(content)
            if size == 0 < layer.size and layer.safe is not None:
                # What was put on the disk stays there until the new bytes are: a power cut must not leave neither.
                layer = await self._begin(content)
            if size >= layer.size:
                if size > _SURE_BYTES:
                    # A size that the local disk's file system cannot have is refused now, and not by the upload.
                    before = layer.file.size
                    await layer.file.truncate(size)
                    await layer.file.truncate(before)
                layer.size = size
                self._wrote(content, layer)
                return
            was = content.unflushed, content.mtime_ns
            take_back = layer.cut(size)
            self.hardening.cut(layer.ino, layer.version)
            if size == 0:
                layer.base = None
            self._wrote(content, layer)
            # The row first: of a killed process's file it must not promise bytes that are cut off already.
            try:
                self.flush(content)
            except BaseException:
                # Who is told that it failed, on a full disk, still has all that was there.
                take_back()
                content.unflushed, content.mtime_ns = was
                raise
            if layer.safe is not None:
                await self._store.make_durable()
            reached("cut noted")
            await layer.file.truncate(size)

    def _wrote(self, content: FileContent, layer: Layer) -> None:
        layer.checksum = None
        content.mtime_ns = time.time_ns()
        content.written_at = trio.current_time()
        content.unflushed = True

    async def _writable(self, content: FileContent) -> Layer:
        """Return the layer to write into, beginning a new one where there is none; the lock is held.

        Intent before bytes: the row stands before the staging file does, so after a crash every staging file
        without a row holds nothing that anybody was told is safe.
        """
        top = content.top
        if isinstance(top, Layer) and not top.sealed:
            if top.checksum is not None:
                # Of an upload that failed: the row must not keep it for other bytes.
                top.checksum = None
                self._store.put_staged(top.row())
            return top
        return await self._begin(content)

    async def _begin(self, content: FileContent, *, changes: bool = True) -> Layer:
        self.flush(content)  # later ones write the row of the new layer alone
        top = content.top
        version = self._store.nodes.next_version()
        row = StagedRow(
            ino=content.ino,
            version=version,
            size=content.size,
            present=b"",
            base=content.version,
            base_limit=content.size,
            base_remote=None if top is None else top.remote,
            base_seen=seen_there_s(self._store, top),
        )
        with self._store.transaction():
            self._take_back(content)
            self._store.put_staged(row)
            self._store.nodes.update(content.ino, version=version, size=content.size)
            self._begun(content.ino)
        content.abandoned = None
        reached("layer noted")
        if changes:
            # Its row says that there is work now: without a time of its change it would be sent at once.
            self._changed(content.ino)
        try:
            file = await self._staging.create(content.ino, version)
        except BaseException:
            content.abandoned = version
            self._try_take_back(content)
            raise
        layer = Layer(
            content.ino, version, file, size=content.size, base=top, base_limit=content.size, row=row
        )
        content.top = layer
        if changes:
            self.bases.note(layer)
        return layer

    def _try_take_back(self, content: FileContent) -> None:
        """Where a full disk does not take even that, whoever needs the rows next does it."""
        with contextlib.suppress(PosixError):
            with self._store.transaction():
                self._take_back(content)
            content.abandoned = None

    def _take_back(self, content: FileContent) -> None:
        """Have the rows name the content's own version again, and not one that was never begun. In a transaction."""
        if content.abandoned is not None:
            self._store.delete_staged(content.ino, content.abandoned)
            self._store.nodes.update(content.ino, version=content.version)

    async def begin_layer(self, content: FileContent) -> Layer:
        """Return the layer that the next write would go into; none is written yet, and nothing to be sent for it.

        Raises Changed where a listing has brought another version since the content was acquired: nobody has it open.
        """
        async with content.lock:
            top, node = content.top, self._store.nodes.get(content.ino)
            if isinstance(top, Layer) and not top.sealed:
                return await self._writable(content)
            if node is None or node.version not in {content.version, content.abandoned}:
                raise Changed("another version has come since", subject=f"inode {content.ino}")
            return await self._begin(content, changes=False)

    def withdraw(self, content: FileContent, layer: Layer, base: Source) -> None:
        """Take back a layer that nobody wrote into: the file is clean again, so that a listing may tell of it.

        Not where somebody is just beginning another one on top: its row is there before it is. Nor where others than
        the caller have it sealed.
        """
        node = self._store.nodes.get(layer.ino)
        if content.top is not layer or content.unflushed or layer.seals > 1 or node is None:
            return
        if (node.version, node.s_version) != (layer.version, base.version):
            return
        with self._store.transaction():
            self._store.delete_staged(layer.ino, layer.version)
            self._store.nodes.update(layer.ino, version=base.version)
            self._store.look_again(layer.ino)
            self.disposal.doom(layer.ino, layer.version)
        content.top = base

    def flush(self, content: FileContent) -> None:
        """Make every acknowledged write survive a killed process: one transaction, no waiting."""
        layer = content.top
        if not content.unflushed or not isinstance(layer, Layer):
            return
        try:
            self._put_row(content, layer)
        except PosixError:  # the disk was filled meanwhile: the store may have made room for another try
            self._put_row_at_last(content, layer)
        content.unflushed = False
        reached("flushed")
        self.hardening.note(layer.ino, layer.version)
        self._changed(content.ino)

    def _put_row_at_last(self, content: FileContent, layer: Layer) -> None:
        try:
            self._put_row(content, layer)
        except PosixError:
            # Its program is told. Nobody is to take these bytes for ones whose row was lost.
            row = self._store.staged(layer.ino, layer.version)
            if row is None or not row.present:
                self._staging.unlabel(layer.ino, layer.version)
            else:
                label(self._store, self._staging, row)
            raise

    def _put_row(self, content: FileContent, layer: Layer) -> None:
        label(self._store, self._staging, layer.row())
        with self._store.transaction():
            self._take_back(content)
            self._store.put_staged(layer.row())
            self._store.nodes.update(
                content.ino, size=layer.size, mtime_ns=content.mtime_ns, ctime_ns=time.time_ns()
            )
        content.abandoned = None

    async def fsync(self, content: FileContent) -> None:
        """Make every acknowledged write survive a power cut."""
        self.flush(content)
        await self.hardening.sync(content)
        self.hardening.mark(content)
        await self._store.make_durable()

    # Ending

    async def _harden(self) -> None:
        await self.hardening.harden()

    async def wait_idle(self) -> None:
        """For shutting down: flush everything that is open, whatever becomes of single files."""
        for content in list(self._live.values()):
            try:
                self.flush(content)
            except CloudfsError:
                path = (
                    self._store.nodes.local_path(content.ino) or f"a file that is gone (inode {content.ino})"
                )
                _log.exception("%s: what was written since it was last closed or synced may be lost", path)
        with contextlib.suppress(CloudfsError, OSError):  # the next start does what is left
            await self.hardening.harden()
            await self.disposal.bury()
