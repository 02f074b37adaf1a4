"""The cache of clean blocks: bytes the server has too, so every one of them may vanish at any time.

Nothing here is an error for a reader or a fetcher. A block that cannot be kept is not kept, one that cannot be
read, or is not what was stored, is a miss; both are logged, seldom. Only the content room knows how to get
a block again.

What is cached is decided here and not by diskcache, whose own policies drop ten entries on any write once
the limit is reached: least recently used goes first, until the size limit and the keep-free guard of
the disk hold. Recency costs no write per read: uses are gathered in memory and written in batches; a crash
forgets the last of them.

LOCK ORDER: one lock, `_writing`, held around every change of the volume and of what is derived from it. Loads
and lookups take none. Methods named `_locked` need it held.

Measured (2 cores, virtio disk, Python 3.11, random data, from call to return; nearly all of it is CPU):

    block      put       get       of which
    1 MiB      2.6 ms    1.4 ms    CRC-32 0.45 ms, thread 0.25 ms, put: page cache 2 ms
    64 KiB     0.7 ms    0.4 ms
    4 KiB      0.55 ms   0.2 ms
    has() 8 µs (18 µs at a million blocks), missing() of 64: 65 µs, a get that misses: 15 µs,
    evicting 200 MiB: 45 ms, drop of 3,000 small blocks: 0.4 s
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio

from cloudfs.blocks.evictor import OVERHEAD_BYTES, Evicted, evict, used_bytes
from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.recency import RecentUses
from cloudfs.blocks.sealing import Keys
from cloudfs.blocks.seldom import SeldomLog
from cloudfs.blocks.trouble import CacheDamaged, CacheTrouble, NoRoom
from cloudfs.blocks.upkeep import create_volume, garbage, open_volume, purge, sweep
from cloudfs.blocks.values import PlainValues, SealedValues
from cloudfs.blocks.volume import NewBlock, Volume
from cloudfs.concurrency.threads import in_disk_thread, in_read_thread
from cloudfs.types import BLOCK_SIZE, ContentVersion, Ino, Octets

__all__ = ["BlockStatistics", "BlockStore"]

_log = logging.getLogger(__name__)

_AHEAD_FROM, _AHEAD_TO = 0.97, 0.95
"""`run` starts evicting at the first part of the limit and stops at the second, so that puts need not."""

_UPKEEP_S = 30.0
_RENEW_EVERY_S = 60.0
"""A volume that is damaged again so soon is not replaced again: the disk is the problem."""

_PART_BYTES = 16 * BLOCK_SIZE
"""What one holding of the lock evicts at most, for a put or for `run`: 4 ms if it is large blocks."""

_DROPPED_AT_ONCE = 64


class BlockStatistics(msgspec.Struct, frozen=True):
    """A moment of the cache."""

    bytes: int
    """What the blocks take of the limit: their lengths and OVERHEAD_BYTES each."""
    blocks: int
    limit_bytes: int
    hits: int
    misses: int


def _nothing_exempt(_ino: Ino, _version: ContentVersion) -> bool:
    return False


def _no_bytes() -> int:
    return 0


class BlockStore:
    """Blocks of at most BLOCK_SIZE bytes by (inode, content version, number).

    `run` belongs in the owner's nursery; without it everything stays correct, only later and slower.
    """

    def __init__(
        self,
        volume: Volume,
        cache: Path,
        *,
        limit_bytes: int,
        keep_free_bytes: int,
        exempt: Callable[[Ino, ContentVersion], bool],
        exempt_bytes: Callable[[], int],
    ) -> None:
        """Not for callers: `open` makes one."""
        self._volume = volume
        self._cache = cache
        self._limit_bytes = limit_bytes
        self._keep_free_bytes = keep_free_bytes
        self._exempt = exempt
        self._exempt_bytes = exempt_bytes
        self._writing = trio.Lock()
        self._uses = RecentUses(volume.index.last_tick)
        self._wake = trio.Event()
        self._damage = ""
        self._renewed_s = -math.inf
        self._closed = False
        self._swept = volume.index.was_closed
        self._hits = 0
        self._misses = 0
        self._complaints = SeldomLog(_log)

    @classmethod
    async def open(
        cls,
        cache: Path,
        store_id: str,
        *,
        limit_bytes: int,
        keep_free_bytes: int,
        exempt: Callable[[Ino, ContentVersion], bool] = _nothing_exempt,
        exempt_bytes: Callable[[], int] = _no_bytes,
        keys: Keys | None = None,
    ) -> BlockStore:
        """Open the cache in the folder `cache`, which belongs to this one account alone.

        `store_id` ([A-Za-z0-9_], at most 64) names the metadata database that gives inodes and versions
        their meaning: blocks of another one are deleted. At most `limit_bytes` are kept, and none that would
        leave less than `keep_free_bytes` free on the disk. `exempt` is asked on the loop, often, and must
        be cheap: blocks of the versions it names are never evicted, and are kept beyond `limit_bytes` (not
        beyond the guard). `exempt_bytes` says about how much they take: that does not count against the limit, or
        nothing else could be cached beside much that is exempt. With `keys` blocks are sealed.
        A damaged cache is replaced by an empty one. Raises CacheTrouble when the folder cannot be used at all.
        """
        form = PlainValues() if keys is None else SealedValues(keys, store_id)
        volume = await in_disk_thread(open_volume, cache, store_id, form)
        return cls(
            volume,
            cache,
            limit_bytes=limit_bytes,
            keep_free_bytes=keep_free_bytes,
            exempt=exempt,
            exempt_bytes=exempt_bytes,
        )

    # Lookups: on the loop, no checkpoint.

    def has(self, ino: Ino, version: ContentVersion, index: int) -> bool:
        """Tell whether the block is cached. It may be gone, or turn out damaged, when it is read."""
        return self._expected(BlockKey(ino, version, index)) is not None

    def missing(self, ino: Ino, version: ContentVersion, indexes: Sequence[int]) -> list[int]:
        """Return those of `indexes` that are not cached, in their order."""
        try:
            return list(indexes) if self._closed else self._volume.missing(ino, version, indexes)
        except CacheTrouble as trouble:
            self._note(trouble)
            return list(indexes)

    def held_bytes(self, ino: Ino, version: ContentVersion) -> int:
        """Return how much of one version is cached."""
        try:
            return 0 if self._closed else self._volume.held_bytes(ino, version)
        except CacheTrouble as trouble:
            self._note(trouble)
            return 0

    def held(self, ino: Ino, version: ContentVersion) -> list[int]:
        """Return the indexes of the cached blocks of one version, in order."""
        try:
            return [] if self._closed else self._volume.held(ino, version)
        except CacheTrouble as trouble:
            self._note(trouble)
            return []

    def versions_after(self, last: tuple[int, int], count: int) -> list[tuple[Ino, ContentVersion, int]]:
        """Return the cached versions after (inode, version) in order, and how many blocks of each there are."""
        try:
            return [] if self._closed else self._volume.versions_after(last, count)
        except CacheTrouble as trouble:
            self._note(trouble)
            return []

    @property
    def keep_free_bytes(self) -> int:
        """So much of the disk is left alone."""
        return self._keep_free_bytes

    def limit(self, limit_bytes: int, keep_free_bytes: int) -> None:
        """Set other limits from now on; what is too much goes soon."""
        self._limit_bytes, self._keep_free_bytes = limit_bytes, keep_free_bytes
        self._wake.set()

    def is_exempt(self, ino: Ino, version: ContentVersion) -> bool:
        """Tell whether a version's blocks are to stay, however full it is."""
        return self._exempt(ino, version)

    def statistics(self) -> BlockStatistics:
        """Return size, limit and the counted gets."""
        return BlockStatistics(
            bytes=used_bytes(self._volume),
            blocks=self._volume.index.blocks,
            limit_bytes=self._limit_bytes,
            hits=self._hits,
            misses=self._misses,
        )

    async def room_bytes(self) -> int:
        """Return how much of exempt blocks there is room for: what the guard leaves, and what can be evicted for them.

        Less than nothing where the disk is fuller than the guard allows already.
        """
        try:
            free_bytes = await in_read_thread(self._volume.free_bytes)
        except CacheTrouble as trouble:
            self._note(trouble)
            return 0
        evictable = max(0, used_bytes(self._volume) - self._exempt_bytes())
        return free_bytes - self._keep_free_bytes + evictable

    # Blocks.

    async def get(self, ino: Ino, version: ContentVersion, index: int) -> bytes | None:
        """Return the whole block, exactly as it was put; None when the cache does not have it (any more)."""
        key = BlockKey(ino, version, index)
        data = await self._load(key)
        if data is None:
            self._misses += 1
            return None
        self._hits += 1
        if self._uses.note(key):
            self._wake.set()
        return data

    async def examine(self, ino: Ino, version: ContentVersion, index: int) -> bytes | None:
        """Do as `get`, but without counting as a use of it. A block that is not what was stored is dropped."""
        return await self._load(BlockKey(ino, version, index))

    async def put(self, ino: Ino, version: ContentVersion, index: int, data: Octets) -> None:
        """Keep a block, evicting others for it; when that is impossible, do not keep it.

        Not durable: power loss may take it. ValueError unless it has 1 to BLOCK_SIZE bytes.
        """
        await self.put_many([(ino, version, index, data)])

    async def put_many(self, blocks: Sequence[tuple[Ino, ContentVersion, int, Octets]]) -> None:
        """Do as `put` for blocks that come together; eight at once cost the databases as much as one."""
        for *_, data in blocks:
            if not 0 < len(data) <= BLOCK_SIZE:
                raise ValueError(f"a block of {len(data)} bytes")
        new = [NewBlock(BlockKey(ino, version, index), data, 0) for ino, version, index, data in blocks]
        async with self._writing:
            if self._closed:
                return
            for part in await self._put_locked(new):
                await self._put_locked([part])
        if self._counted_bytes() > self._limit_bytes * _AHEAD_FROM:
            self._wake.set()

    async def drop(self, ino: Ino, version: ContentVersion) -> None:
        """Forget one version of a file, because nobody will ask for it again."""
        try:
            while not self._closed:
                async with self._writing:
                    keys = self._volume.of_version(ino, version, _DROPPED_AT_ONCE)
                    if not keys:
                        return
                    await in_disk_thread(self._volume.remove, keys)
        except CacheTrouble as trouble:
            self._note(trouble)

    async def give_way(self, wanted_bytes: int) -> None:
        """Free so much of the disk, or what there is: somebody with more right to it found it full."""
        try:
            while wanted_bytes > 0 and not self._closed:
                async with self._writing:
                    evicted = await self._evict_locked(wanted_bytes)
                wanted_bytes -= evicted.freed_bytes
                if not (evicted.more and evicted.freed_bytes):
                    return
        except CacheTrouble as trouble:
            self._note(trouble)

    # Life.

    async def run(self) -> None:
        """Work for ever: clear away what a crash left, write uses down, evict ahead of need."""
        await self._clear_garbage()
        if not self._swept:
            await self._sweep()
        while not self._closed:
            with trio.move_on_after(_UPKEEP_S):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._upkeep()

    async def aclose(self) -> None:
        """Write the last uses down and close. Afterwards every get is a miss and every put does nothing."""
        with trio.move_on_after(5, shield=True):
            async with self._writing:
                if self._closed:
                    return
                self._closed = True
                try:
                    while self._uses:
                        await in_disk_thread(self._volume.touch, self._uses.take())
                    await in_disk_thread(self._volume.close, self._swept and not self._damage)
                except CacheTrouble as trouble:
                    _log.warning("the block cache was not closed in order: %s", str(trouble))

    async def _load(self, key: BlockKey) -> bytes | None:
        volume = self._volume
        expected = self._expected(key)
        if expected is None:
            await trio.lowlevel.checkpoint()
            return None
        try:
            data = await in_read_thread(volume.load, key, *expected)
        except CacheTrouble as trouble:
            self._note(trouble)
            return None
        # Evicted meanwhile is no news; still expected and not there is.
        if data is None and volume is self._volume and self._expected(key) == expected:
            await self._discard(key)
        return data

    async def _discard(self, key: BlockKey) -> None:
        self._complaints.warning(
            "block %d of inode %d was not what was stored, and is dropped", key.block, key.ino
        )
        async with self._writing:
            try:
                await in_disk_thread(self._volume.remove, [key])
            except CacheTrouble as trouble:
                self._note(trouble)

    async def _put_locked(self, blocks: Sequence[NewBlock]) -> Sequence[NewBlock]:
        """Store blocks together; return them where that has to be tried one by one."""
        try:
            await self._mend_locked()
            await self._store_locked(blocks)
        except CacheTrouble as trouble:
            if len(blocks) > 1 and isinstance(trouble, NoRoom):
                return blocks
            self._note(trouble)
        return ()

    async def _store_locked(self, blocks: Sequence[NewBlock]) -> None:
        await self._fit_locked(blocks)
        blocks = [block._replace(tick=self._uses.next_tick()) for block in blocks]
        job = partial(self._volume.store, blocks, self._keep_free_bytes)
        try:
            await in_disk_thread(job)
        except NoRoom as full:
            self._wake.set()
            # Four blocks at least: a disk that is full takes one step back, not one per put.
            wanted_bytes = max(full.shortage_bytes, 4 * sum(len(block.data) for block in blocks))
            if not (await self._evict_locked(wanted_bytes)).freed_bytes:
                await in_disk_thread(self._volume.empty_logs)  # the last thing the cache can give
            await in_disk_thread(job)

    async def _fit_locked(self, blocks: Sequence[NewBlock]) -> None:
        """Evict what the limit demands before blocks come in. Raises NoRoom if that is not enough."""
        fresh = [block for block in blocks if not self._expected(block.key)]
        cost_bytes = sum(len(block.data) + OVERHEAD_BYTES for block in fresh)
        excess = self._counted_bytes() + cost_bytes - self._limit_bytes
        if excess <= 0 or not fresh:
            return
        freed = (await self._evict_locked(excess)).freed_bytes
        if freed < excess and not all(self._exempt(*block.key[:2]) for block in fresh):
            raise NoRoom(excess - freed)

    async def _evict_locked(self, wanted_bytes: int) -> Evicted:
        # More than a part only after the limit was lowered: the rest is for the next puts, or `run`.
        wanted_bytes = min(wanted_bytes, _PART_BYTES)
        return await evict(self._volume, self._uses, wanted_bytes, self._exempt, self._uses.tick)

    async def _write_uses(self) -> None:
        while self._uses:
            async with self._writing:
                await in_disk_thread(self._volume.touch, self._uses.take())

    async def _mend_locked(self) -> None:
        """Replace a damaged volume, but not again and again."""
        if not self._damage or trio.current_time() - self._renewed_s < _RENEW_EVERY_S:
            return
        _log.error("the block cache is damaged and starts again empty: %s", self._damage)
        await self._renew_locked()

    async def _renew_locked(self) -> None:
        old = self._volume
        self._renewed_s = trio.current_time()
        self._volume = await in_disk_thread(create_volume, self._cache, old.store_id, old.form)
        self._damage = ""
        self._swept = True
        self._uses.clear()
        try:
            await in_disk_thread(old.close, False)  # noqa: FBT003  # positional through a thread
        except CacheTrouble as trouble:
            _log.debug("closing a damaged cache: %s", trouble)
        self._wake.set()

    async def _upkeep(self) -> None:
        try:
            async with self._writing:
                await self._mend_locked()
            await self._write_uses()
            await self._evict_ahead()
            await self._clear_garbage()
        except CacheTrouble as trouble:
            self._note(trouble)

    async def _evict_ahead(self) -> None:
        used, limit = self._counted_bytes(), self._limit_bytes
        free_bytes = await in_read_thread(self._volume.free_bytes)
        # Counted once and not measured again: space that somebody else takes meanwhile, or that the
        # file system gives back late, must not cost the whole cache.
        wanted = max(
            used - int(limit * _AHEAD_TO) if used > limit * _AHEAD_FROM else 0,
            self._keep_free_bytes - free_bytes,
        )
        last_tick = self._uses.tick
        while wanted > 0 and not self._closed:
            async with self._writing:  # let go after every part, so that puts get their turn
                part = min(wanted, _PART_BYTES)
                evicted = await evict(self._volume, self._uses, part, self._exempt, last_tick)
            wanted -= evicted.freed_bytes
            if not evicted.more:
                return

    async def _clear_garbage(self) -> None:
        try:
            async with self._writing:  # or a volume that is just being made would look like an old one
                folders = await in_disk_thread(garbage, self._cache, self._volume.folder)
            for folder in folders:
                steps = purge(folder)
                while await in_disk_thread(_goes_on, steps):
                    pass
        except CacheTrouble as trouble:
            self._note(trouble)

    async def _sweep(self) -> None:
        volume = self._volume
        steps = sweep(volume)
        try:
            goes_on = True
            while goes_on:
                async with self._writing:
                    if self._closed or self._volume is not volume:
                        return
                    goes_on = await in_disk_thread(_goes_on, steps)
            self._swept = True
        except CacheTrouble as trouble:
            self._note(trouble)

    # Bookkeeping.

    def _counted_bytes(self) -> int:
        """Return what counts against the limit."""
        return used_bytes(self._volume) - self._exempt_bytes()

    def _expected(self, key: BlockKey) -> tuple[int, int] | None:
        try:
            return None if self._closed else self._volume.find(key)
        except CacheTrouble as trouble:
            self._note(trouble)
            return None

    def _note(self, trouble: CacheTrouble) -> None:
        if isinstance(trouble, CacheDamaged):
            self._damage = str(trouble)
            self._wake.set()
        self._complaints.warning("the block cache gave way: %s", str(trouble))


def _goes_on(steps: Iterator[None]) -> bool:
    """Take one step; False when there was none left."""
    done = object()
    return next(steps, done) is not done
