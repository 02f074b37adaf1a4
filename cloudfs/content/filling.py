"""Where the bytes of transfers go: into pages and from there to the block cache, or straight to a consumer."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from cloudfs.content import checksums
from cloudfs.content.judging import Judge, Verdict
from cloudfs.content.line import Line
from cloudfs.content.memory import BlockKey, MemoryBudget, Page, Pages
from cloudfs.content.source import BlockCache, Source
from cloudfs.content.transfer import Transfer
from cloudfs.errors import ProtocolViolation
from cloudfs.ranges import block_span
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino, Octets

__all__ = ["CheckedFiller", "Filler", "Pump", "Room", "Stores"]

_log = logging.getLogger(__name__)

_CATCH_UP_S = 0.02
_GATHER_S = 0.05
"""How long blocks that come one by one are gathered. Two transactions and a way into a thread cost as much CPU as
writing three blocks; on a quick line that is a tenth of all that a read costs."""


class Stores:
    """Writes whole pages to the block cache, some together, behind the backs of readers and transfers.

    A page stays pinned, and so charged to the budget, until it is written: a disk slower than the network
    slows transfers down instead of filling the memory.
    """

    def __init__(self, blocks: BlockCache, pages: Pages, together: int, nursery: trio.Nursery) -> None:
        self.failures = 0
        self._blocks = blocks
        self._pages = pages
        self._nursery = nursery
        self._together = together
        self._queue: deque[tuple[Page, Octets]] = deque()
        self._writing = False
        self._enough = trio.Event()
        """Nothing is gained by gathering longer."""
        self._waiting: Counter[tuple[Ino, ContentVersion]] = Counter()
        self._changed = trio.lowlevel.ParkingLot()
        self._noting: list[tuple[tuple[Ino, ContentVersion], set[int]]] = []

    @property
    def pending(self) -> int:
        """Pages that are being written or wait for it; each will be unpinned without anybody's help."""
        return self._waiting.total()

    def store_soon(self, page: Page, data: Octets) -> None:
        """Write the page to the block cache as soon as it is its turn."""
        if not self._writing:
            self._nursery.start_soon(self._write_all, name="block cache stores")
            self._writing = True
        self._queue.append((page, data))
        self._waiting[page.key[:2]] += 1
        self._pages.pin(page)
        if len(self._queue) >= self._together:
            self.hurry()

    def hurry(self) -> None:
        """Write what there is: somebody waits for its memory, or for all to be written. NO CHECKPOINT."""
        self._enough.set()

    @contextmanager
    def noting(self, source: Source) -> Iterator[set[int]]:
        """Collect the blocks of this version that are given to the cache meanwhile, kept or not."""
        entry: tuple[tuple[Ino, ContentVersion], set[int]] = ((source.ino, source.version), set())
        self._noting.append(entry)
        try:
            yield entry[1]
        finally:
            self._noting = [other for other in self._noting if other is not entry]

    async def wait_stored(self, source: Source) -> None:
        """Wait until no page of this version is left to write, whether that went well or not."""
        while (source.ino, source.version) in self._waiting:
            self.hurry()
            await self._changed.park()

    async def _write_all(self) -> None:
        """Write what waits, and what comes meanwhile, many together."""
        part: list[tuple[Page, Octets]] = []
        try:
            while self._queue:
                await self._gather()
                part = [self._queue.popleft() for _ in range(min(self._together, len(self._queue)))]
                await self._write(part)
                part = self._written(part)
        finally:
            self._writing = False
            self._written([*part, *self._queue])
            self._queue.clear()

    async def _gather(self) -> None:
        if len(self._queue) < self._together:
            with trio.move_on_after(_GATHER_S):
                await self._enough.wait()
        self._enough = trio.Event()

    async def _write(self, part: Sequence[tuple[Page, Octets]]) -> None:
        try:
            await self._blocks.put_many([(*page.key, data) for page, data in part])
        except Exception:  # noqa: BLE001  # whatever a disk or a cache can come up with
            # The cache is a convenience: readers have their bytes. Once is enough for the log.
            level = logging.DEBUG if self.failures else logging.WARNING
            self.failures += len(part)
            _log.log(
                level,
                "block %d of inode %d could not be cached",
                part[0][0].key.block,
                part[0][0].key.ino,
                exc_info=True,
            )

    def _written(self, part: Sequence[tuple[Page, Octets]]) -> list[tuple[Page, Octets]]:
        for page, _ in part:
            version = page.key[:2]
            for wanted, blocks in self._noting:
                if wanted == version:
                    blocks.add(page.key.block)
            self._waiting[version] -= 1
            if not self._waiting[version]:
                del self._waiting[version]
                self._changed.unpark_all()
            self._pages.unpin(page)
        return []


class Room:
    """Where the sinks of an account find memory for their pages."""

    def __init__(self, pages: Pages, budget: MemoryBudget, stores: Stores, line: Line) -> None:
        self.pages = pages
        self.stores = stores
        self.line = line
        self._budget = budget

    async def page_for(self, transfer: Transfer) -> Page | None:
        """Return the page of the block that comes now, pinned, as soon as there is memory for it.

        None where a waiting reader needs the slot more.
        """
        source = transfer.source
        key = BlockKey(source.ino, source.version, transfer.position // BLOCK_SIZE)
        low, high = block_span(key.block, source.size)
        while True:
            # Without a page on its way to disk nobody is sure to give memory back: a waiting reader gets it anyway.
            force = transfer.urgent and not self.stores.pending
            page = self.pages.open(key, low, high, urgent=transfer.urgent, force=force)
            if page is not None:
                self.pages.pin(page)
                return page
            if not transfer.urgent and self.line.slots.reader_waits:
                return None
            self.stores.hurry()
            await self._budget.wait_changed()

    def nudge(self) -> None:
        """Somebody who waits for room, or for a slot, has become urgent. NO CHECKPOINT."""
        self.line.slots.nudge()
        self._budget.nudge()


class Filler:
    """Sink of one transfer that fills pages. INVARIANT: at most one page is pinned, the one being filled."""

    def __init__(
        self,
        room: Room,
        complete_head: Callable[[Source, int, int], object],
        pace_bytes: int,
    ) -> None:
        self._room = room
        self._pages = room.pages
        self._stores = room.stores
        self._line = room.line
        self._complete_head = complete_head
        self._pace_bytes = pace_bytes
        self._page: Page | None = None

    async def take(self, transfer: Transfer, chunk: Octets) -> bool:
        """Fill pages; waits for memory. False where somebody else has or gets the next block."""
        view = memoryview(chunk)
        while view:
            page = self._page or await self._begin_page(transfer)
            if page is None:
                return False
            part = view[: page.stop - transfer.position]
            self._fill(transfer, page, part)
            view = view[len(part) :]
        return True

    def end(self) -> None:
        """Unpin the page that was being filled; what it has stays until its memory is needed. What is whole is kept."""
        self._leave_page()
        self._stores.hurry()  # nothing more comes with which it could be written

    def _fill(self, transfer: Transfer, page: Page, part: memoryview) -> None:
        was_whole = page.data is not None
        page.fill(transfer.position, part)
        transfer.advance(transfer.position + len(part), page.read)
        if page.data is not None and not was_whole:
            self._stores.store_soon(page, page.data)
        if transfer.position == page.stop:
            self._leave_page()
            if gaps := page.gaps():
                # The transfer began inside this block, since a reader was waiting for those bytes first.
                self._complete_head(transfer.source, *gaps[0])

    async def _begin_page(self, transfer: Transfer) -> Page | None:
        source = transfer.source
        key = BlockKey(source.ino, source.version, transfer.position // BLOCK_SIZE)
        if transfer.is_far_ahead(self._pace_bytes):
            # A reader gets its turn once for every 128 KiB, a transfer for up to 1 MiB: it would win any race, and
            # blocks would be dropped from memory before they are read. A slow reader holds nobody up for long.
            await transfer.wait_for_reader(self._pace_bytes, _CATCH_UP_S)
        # Whoever started the transfer has looked for the first block, and for blocks on disk.
        if transfer.position > transfer.start and self._is_elsewhere(transfer, key):
            return None
        self._page = await self._room.page_for(transfer)
        return self._page

    def _is_elsewhere(self, transfer: Transfer, key: BlockKey) -> bool:
        page = self._pages.get(key)
        if page is not None and page.data is not None:
            return True
        # Only transfers started later count: two of them must not stop in favour of each other.
        active = self._line.active(transfer.source)
        newer = active[active.index(transfer) + 1 :]
        return any(it.start <= transfer.position < it.stop for it in newer)

    def _leave_page(self) -> None:
        if self._page is not None:
            self._pages.unpin(self._page)
            self._page = None


class CheckedFiller:
    """Sink of a transfer of a file of one block: hands nothing out before all of it has passed its checksum.

    Meanwhile they are in a sealed page, where a later transfer finds what an earlier one has brought.
    """

    def __init__(self, room: Room, judge: Judge) -> None:
        self._room = room
        self._judge = judge
        self._page: Page | None = None

    async def take(self, transfer: Transfer, chunk: Octets) -> bool:
        """Keep the chunk, and hand all out at the end; waits for memory.

        Raises ProtocolViolation where the content has to be fetched once more, from its start, and ChecksumMismatch.
        """
        page = self._page or await self._begin(transfer)
        if page is None:
            return False
        page.fill(transfer.position, memoryview(chunk))
        transfer.position += len(chunk)
        if transfer.position < transfer.stop:
            return True
        if page.gaps():
            return False  # another transfer found that what was here did not fit, and began anew
        self._finish(transfer, page)
        return True

    def end(self) -> None:
        """Unpin the page; what has come stays until its memory is needed."""
        if self._page is not None:
            self._room.pages.unpin(self._page)
            self._page = None
        self._room.stores.hurry()

    async def _begin(self, transfer: Transfer) -> Page | None:
        """Return the page; None where it lacks bytes before those that come, since it was dropped meanwhile."""
        self._page = page = await self._room.page_for(transfer)
        if page is None:
            return None
        page.sealed = page.data is None
        return page if page.first_gap(0) >= transfer.position else None

    def _finish(self, transfer: Transfer, page: Page) -> None:
        if page.data is None:
            self._judge_page(transfer, page)
        transfer.advance(transfer.stop, page.read)

    def _judge_page(self, transfer: Transfer, page: Page) -> None:
        data, source = page.joined(), transfer.source
        # At most 1 MiB: 0.8 ms for SHA1, less than a thread's way there and back with all its readers waiting.
        verdict = self._judge.judge(source, checksums.of(data, source.remote.checksum or ""))
        if verdict is Verdict.SERVE:
            page.complete(data)
            self._room.stores.store_soon(page, data)
            return
        page.empty()
        if verdict is Verdict.REFUSE:
            raise self._judge.refusal(source)
        transfer.start = transfer.position = 0
        raise ProtocolViolation("what came does not fit its checksum", subject=f"inode {source.ino}")


class Pump:
    """Sink of one transfer that hands its chunks to a consumer, which thereby sets the pace."""

    def __init__(self, send: trio.MemorySendChannel[Octets]) -> None:
        self._send = send

    async def take(self, transfer: Transfer, chunk: Octets) -> bool:
        """Hand over the chunk; False when the consumer has gone."""
        try:
            await self._send.send(chunk)
        except trio.BrokenResourceError:
            return False
        transfer.advance(transfer.position + len(chunk), _nothing)
        return True

    def end(self) -> None:
        """Tell the consumer that nothing more will come."""
        self._send.close()


def _nothing(start: int, stop: int) -> None:
    """No reader waits for the bytes of a pump."""
