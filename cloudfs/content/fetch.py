"""Reading a version of a file: from memory, from the block cache, else from the server.

    read -> memory page?  -> its bytes
         -> block cache?  -> a page -> its bytes
         -> under way?    -> wait for exactly these bytes
         -> else          -> a Transfer in the nursery, then wait

A Transfer fills pages; a whole page goes to the block cache behind the reader's back. Between looking for
bytes and taking them lies no checkpoint; after every wait all is looked up again.

Bytes of another version cannot get in: every reply was checked by the Remote against `Source.remote`, and
pages and blocks are keyed by the version's number.
"""

from __future__ import annotations

import errno
import math
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import msgspec
import trio

from cloudfs.concurrency.singleflight import SingleFlight
from cloudfs.concurrency.threads import in_read_thread
from cloudfs.content.archiving import Archivist
from cloudfs.content.filling import Pump, Room, Stores
from cloudfs.content.judging import Doubt, Judge
from cloudfs.content.launching import Launcher
from cloudfs.content.line import Line
from cloudfs.content.memory import BlockKey, MemoryBudget, Pages, trim_heap
from cloudfs.content.presence import Presence
from cloudfs.content.readahead import Habit, ReadPattern
from cloudfs.content.source import BlockCache, FetchConfig, Locate, Source, named
from cloudfs.content.sweeping import Sweeper, Turn
from cloudfs.content.verifying import Verifier, checks_first
from cloudfs.errors import PosixError
from cloudfs.octets import joined
from cloudfs.ranges import block_span, blocks_of
from cloudfs.remote.protocol import Remote
from cloudfs.remote.silence import Silence
from cloudfs.types import BLOCK_SIZE, Ino, Octets

__all__ = ["FetchConfig", "FetchStatistics", "Fetcher", "MemoryBudget", "ReadPattern", "Received", "Source"]


_REST_S = 10.0
"""Whoever reads a file again reads it within seconds, or from the block cache."""

_GUESS_S = 0.1
"""Programs that look at heads are done with one after that. Who reads on waits for so long once: then it is no head."""


class FetchStatistics(msgspec.Struct, frozen=True):
    """What was read from where since the start, and what goes on now."""

    requests: int
    resumes: int
    """Requests that went on where a broken one had stopped."""
    received_bytes: int
    from_disk_bytes: int
    """Whole blocks read from the block cache; a reader may have wanted less."""
    transfers: int
    """Requests that run now."""
    storing: int
    """Blocks that wait to be written to the block cache now."""
    store_failures: int
    archived_files: int
    """Files that came many in one request."""
    memory_used_bytes: int
    memory_peak_bytes: int


class Received(msgspec.Struct, frozen=True):
    """One request for bytes at this moment."""

    ino: Ino
    done_bytes: int
    size_bytes: int
    """What this request is to bring."""
    bytes_per_s: float


class Fetcher:
    """Reads versions of files for one account. Made and used on the loop's thread only."""

    def __init__(  # noqa: PLR0913  # the last three are the account's, each with a default
        self,
        blocks: BlockCache,
        remote: Remote,
        locate: Locate,
        budget: MemoryBudget,
        nursery: trio.Nursery,
        config: FetchConfig | None = None,
        *,
        chance: random.Random | None = None,
        silence: Silence | None = None,
        dropped: Callable[[Ino], None] = lambda _: None,
    ) -> None:
        """Prepare, without any work. `chance` spreads repeated requests; tests seed it. `silence`: the account's.

        `dropped` is told of each inode of which bytes were given to programs that did not fit its checksum.
        """
        self._blocks = blocks
        self._budget = budget
        self._nursery = nursery
        self._config = config or FetchConfig()
        chance = chance or random.Random()  # noqa: S311  # spreads retries, guards nothing
        self._locate = locate
        silence = silence or Silence()
        self._line = Line(remote, locate, self._config, chance, silence)
        self._pages = Pages(budget, self._config.recent_bytes)
        self._loads: SingleFlight[BlockKey, bytes | None] = SingleFlight(nursery)
        self._presence = Presence(blocks, self._pages, self._line, self._config.lookahead_bytes)
        self._stores = Stores(blocks, self._pages, self._config.stores, nursery)
        self._judge = Judge(locate)
        self.verifier = Verifier(
            blocks, self._pages, self._judge, busy=self._busy, fetch=self.prefetch_whole, dropped=dropped
        )
        self._launcher = Launcher(
            self._line,
            self._presence,
            Room(self._pages, budget, self._stores, self._line),
            self._judge,
            self._config,
            nursery,
            self.verifier.note,
            silence,
        )
        self._sweeper = Sweeper(blocks, self._pages, self._stores, self._presence, self._line, self._launcher)
        self._archivist = Archivist(remote, locate, self._line, blocks, self._pages, budget, self._config)
        self._from_disk_bytes = 0
        self._habit = Habit()
        self._reading = trio.Event()
        self._waited_at = -math.inf
        """trio time at which a reader last waited for bytes from the server."""

    def pattern(self) -> ReadPattern:
        """Return what recognises sequential reading; one per open file, `release` it on close."""
        return ReadPattern(self._habit)

    async def read(self, source: Source, start: int, stop: int, pattern: ReadPattern | None = None) -> Octets:
        """Return exactly the bytes [start, stop) of that version, stop <= source.size.

        May return without a checkpoint. Raises Changed (ESTALE) when the server no longer has this version, also
        when it has no such file; Locked when our own upload of the file keeps it too long; Unreachable and the
        other RemoteErrors after a bounded number of further tries; ChecksumMismatch (EIO) for a version of which
        something else comes each time.
        """
        self._judge.require_sound(source)
        self._reading.set()
        pattern = pattern or ReadPattern()
        pattern.observe(start, stop, source.size)
        if pattern.is_guess(start, stop):
            await self._unless_closed(source, start, stop, pattern)
        self._launcher.read_ahead(source, start, stop, pattern)
        parts: list[Octets] = []
        for index in blocks_of(start, stop):
            low, high = block_span(index, source.size)
            parts += await self._read_block(source, index, max(start, low), min(stop, high), pattern)
        return joined(parts)

    async def chunks(self, source: Source, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes [start, stop) in order, as pieces of at most 1 MiB.

        What is not cached is fetched and not kept, so the file may be larger than the cache. A consumer that is
        slow slows the server down; no more than a few MiB are in memory. Raises as `read` does.
        """
        self._judge.require_sound(source)
        if checks_first(source) and start < stop:
            yield bytes(await self.read(source, start, stop))
            return
        position = start
        while position < stop:
            piece = await self._cached(source, position, stop)
            if piece is not None:
                position += len(piece)
                yield bytes(piece)
                continue
            send, receive = trio.open_memory_channel[Octets](0)
            end = self._launcher.gap_end(source, position, stop)
            transfer = self._launcher.launch(source, position, end, Pump(send))
            try:
                # No `async for` over the channel inside a cancel scope or nursery: a generator may be left anywhere.
                with transfer.held(), receive:
                    async for piece in receive:
                        position += len(piece)
                        yield bytes(piece)
            finally:
                transfer.scope.cancel()
            await transfer.wait_done()

    async def prefetch_whole(self, source: Source, turn: Turn | None = None) -> None:
        """Bring all blocks of a version into the block cache. Gives way to readers.

        `turn`: for what has time. It is waited for before each request, and a request ends, with a whole block, once a
        reader waits for the server.

        Raises as `read` does, and PosixError: ENOSPC when the cache does not keep what it is given, EAGAIN when
        readers leave no memory to complete a block in.
        """
        await self._sweeper.bring(source, turn)

    def idle_s(self) -> float:
        """Return for how long no reader has waited for the server; 0: one does."""
        return 0.0 if self._line.reader_waits else trio.current_time() - self._waited_at

    def missing_bytes(self, source: Source) -> int:
        """Return how much of a version is not in the block cache. NO CHECKPOINT: 15 ms for 100 GB that are there.

        What is there is counted, and not what is missing: a server may say of a file that it has a million terabytes.
        """
        return max(0, source.size - self._blocks.held_bytes(source.ino, source.version))

    def comes(self, source: Source) -> bool:
        """Tell whether the first block of a version is here, or on its way by a request of its own. NO CHECKPOINT."""
        return self._presence.comes(source, 0)

    @property
    def head_bytes(self) -> int:
        """How much of each larger file is read by whoever looks at their heads."""
        return self._habit.head_bytes

    @property
    def reads_heads(self) -> bool:
        """The larger file that was read last was closed after its first bytes."""
        return self._habit.heads

    def has_head(self, source: Source) -> bool:
        """Tell whether the first bytes of a larger file are in memory, or on their way. NO CHECKPOINT."""
        return self._presence.first_gap(source, 0) >= self._habit.head_bytes or self.comes(source)

    def prefetch_head(self, source: Source) -> None:
        """Have the first bytes of a file larger than a block come into memory; nobody hears of it. NO CHECKPOINT."""
        self._launcher.fill(source, 0, self._habit.head_bytes)

    async def prefetch_archive(
        self, sources: Sequence[Source], *, listed_etag: str = "", read_soon: bool = False
    ) -> list[Source]:
        """Bring small files (up to 1 MiB) of one folder into the block cache, many in one request.

        Gives way to readers, and to our own uploads of the files. Returns those that are there now by this; the others
        are cached already, or have to be read one by one: changed, gone, or not proved to be the version that is
        wanted. Raises Unsupported where the server makes no archives, and what requests raise; then some may be there.

        `listed_etag` spares a listing: the ETag under which the folder was last seen whole, with just these versions.
        Only for sources of one folder, and no checkpoint may lie between looking these up and calling this.
        `read_soon`: a program will likely read them next, and they are kept in memory as well.
        """
        return await self._archivist.prefetch(sources, listed_etag, read_soon=read_soon)

    async def quiesce(self, ino: Ino) -> None:
        """Stop all transfers of a file; returns when their connections are closed, or after 3 s.

        Readers that wait start new ones: use `paused` to hold them off.
        """
        await self._line.quiesce(ino)

    def paused(self, ino: Ino) -> AbstractAsyncContextManager[None]:
        """Keep the server's read locks of ours off a file while it is uploaded.

        Transfers are stopped and closed; what is cached is still read; a fetch waits until the end, at most 10 s,
        then fails with Locked. May be nested. Do not fetch this file inside the block: it would wait for itself.
        """
        return self._line.paused(ino)

    async def run(self) -> None:
        """Give memory back to the system once nobody has read for a while; for ever, in the owner's nursery."""
        while True:
            await self._reading.wait()
            self._reading = trio.Event()
            await trio.sleep(_REST_S)
            if not self._reading.is_set():
                self.forget()
                await in_read_thread(trim_heap)

    def forget(self) -> None:
        """Drop the blocks in memory that nobody is filling or writing; they stay in the block cache."""
        self._pages.clear()

    def doubts(self) -> list[Doubt]:
        """Return the versions whose bytes do not fit their checksum, as `judging` tells."""
        return list(self._judge.doubts())

    def under_way(self) -> list[Received]:
        """Return the requests for single files that run or wait now."""
        return [
            Received(it.source.ino, it.position - it.start, it.stop - it.start, it.bytes_per_s())
            for it in self._line.all_active()
        ]

    def statistics(self) -> FetchStatistics:
        """Return the counts of this moment."""
        return FetchStatistics(
            requests=self._line.requests,
            resumes=self._line.resumes,
            received_bytes=self._line.received_bytes,
            from_disk_bytes=self._from_disk_bytes,
            transfers=self._line.slots.running,
            storing=self._stores.pending,
            store_failures=self._stores.failures,
            archived_files=self._archivist.files,
            memory_used_bytes=self._budget.used_bytes,
            memory_peak_bytes=self._budget.peak_bytes,
        )

    # --- looking for bytes -------------------------------------------------------------------------------

    async def _read_block(
        self, source: Source, index: int, start: int, stop: int, pattern: ReadPattern
    ) -> list[Octets]:
        """Return the bytes [start, stop) of one block in pieces.

        INVARIANT: whatever was found once is taken at once, so that readers get on however little memory there is.
        """
        key = BlockKey(source.ino, source.version, index)
        parts = []
        look_on_disk = True
        while start < stop:
            data = self._from_memory(key, start, stop, pattern)
            if data is None and look_on_disk and self._blocks.has(*key):
                data = await self._from_disk(source, key, start, stop)
                # A block that is listed and cannot be read is fetched; asking the disk again would not end.
                look_on_disk = data is not None
            elif data is None:
                data = await self._from_server(source, start, stop, pattern)
            if data is not None:
                parts.append(data)
                start += len(data)
        return parts

    async def _from_server(
        self, source: Source, start: int, stop: int, pattern: ReadPattern
    ) -> Octets | None:
        transfer = self._launcher.transfer_for(source, start, stop, pattern)
        named_here = partial(named, source, self._locate)
        data = await self._launcher.wait_bytes(transfer, start, stop, named_here)
        self._waited_at = trio.current_time()
        return data

    def _from_memory(self, key: BlockKey, start: int, stop: int, pattern: ReadPattern) -> Octets | None:
        page = self._pages.get(key)
        data = page.read(start, stop) if page is not None else None
        if page is None or data is None:
            return None
        if stop == page.stop and pattern.sequential:
            self._pages.demote(page)
        return data

    async def _from_disk(self, source: Source, key: BlockKey, start: int, stop: int) -> Octets | None:
        block = await self._loads.run(key, partial(self._load, source, key))
        low = key.block * BLOCK_SIZE
        return None if block is None else memoryview(block)[start - low : stop - low]

    async def _load(self, source: Source, key: BlockKey) -> bytes | None:
        data = await self._blocks.get(*key)
        low, high = block_span(key.block, source.size)
        if data is None or len(data) != high - low:
            return None
        self._from_disk_bytes += len(data)
        # Without room the readers still get their bytes; the next read of this block loads it again.
        # Nor does what was dropped from the disk meanwhile, as damaged, come into memory by that.
        page = self._pages.open(key, low, high, urgent=True) if self._blocks.has(*key) else None
        if page is not None and page.data is None:
            page.complete(data)
        return data

    async def _cached(self, source: Source, start: int, stop: int) -> Octets | None:
        """Return the first piece of [start, stop) that is here, None when the byte at `start` is not."""
        key = BlockKey(source.ino, source.version, start // BLOCK_SIZE)
        low, high = block_span(key.block, source.size)
        end = min(stop, high)
        page = self._pages.get(key)
        if page is not None and (data := page.read(start, end)) is not None:
            return data
        data = await self._blocks.get(*key) if self._blocks.has(*key) else None
        return None if data is None or len(data) != high - low else data[start - low : end - low]

    async def _unless_closed(self, source: Source, start: int, stop: int, pattern: ReadPattern) -> None:
        """Give a program a moment to close its file before what the kernel guessed is fetched.

        PosixError: EAGAIN when it does; the kernel then asks again for what somebody wants of it after all.
        """
        closing = pattern.closing
        if closing is None or self._presence.first_gap(source, start) >= stop:
            return
        with trio.move_on_after(_GUESS_S):
            await closing.wait()
            raise PosixError(errno.EAGAIN, f"read-ahead of inode {source.ino}")
        pattern.wanted(stop)

    def _busy(self) -> bool:
        return bool(self._line.slots.running or self._stores.pending)
