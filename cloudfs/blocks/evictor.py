"""Who has to go: the least recently used blocks that nobody exempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cloudfs.blocks.index import BlockRow
from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.recency import RecentUses
from cloudfs.blocks.volume import Volume
from cloudfs.concurrency.threads import in_disk_thread
from cloudfs.types import ContentVersion, Ino

__all__ = ["OVERHEAD_BYTES", "Evicted", "choose_victims", "evict", "used_bytes"]

OVERHEAD_BYTES = 1024
"""What a block takes of the disk beside its own bytes: rows, indexes, and pages that are not full.

Measured: 200 bytes for tiny blocks, 0.4 to 2.2 KB for others; more exactness is not worth a stat per block."""

_BATCH = 64
_MOST_BATCHES = 16
"""One call looks at no more than a thousand rows, however many of them are exempt: about 20 ms."""


class Evicted(msgspec.Struct, frozen=True):
    """What one eviction did."""

    freed_bytes: int
    more: bool
    """There may be more to take; the call stopped because it had worked enough."""


def used_bytes(volume: Volume) -> int:
    """Return what the blocks of a volume take of the limit."""
    return volume.index.bytes + volume.index.blocks * OVERHEAD_BYTES


async def evict(
    volume: Volume,
    uses: RecentUses,
    wanted_bytes: int,
    exempt: Callable[[Ino, ContentVersion], bool],
    last_tick: int,
) -> Evicted:
    """Remove least recently used blocks until `wanted_bytes` are freed; the caller holds the write lock.

    Only blocks last used up to `last_tick` are taken. Exempt blocks get a later tick, as if they were used
    now: so they end the search, and later evictions do not meet them again and again. Raises CacheTrouble.
    """
    freed = 0
    for _ in range(_MOST_BATCHES):
        if freed >= wanted_bytes:
            break
        rows = [row for row in volume.oldest(_BATCH) if row.used <= last_tick]
        if not rows:
            return Evicted(freed, more=False)
        # Used since, but not yet written down: they move to their place now, and are looked at again there.
        moved = uses.claim(row.key for row in rows)
        still_old = [row for row in rows if row.key not in moved]
        victims, spared = choose_victims(still_old, wanted_bytes - freed, exempt)
        if victims:
            freed += await in_disk_thread(volume.remove, victims) + len(victims) * OVERHEAD_BYTES
        if moved or spared:
            await in_disk_thread(volume.touch, moved | uses.number(spared))
    return Evicted(freed, more=True)


def choose_victims(
    rows: Sequence[BlockRow],
    wanted_bytes: int,
    exempt: Callable[[Ino, ContentVersion], bool],
) -> tuple[list[BlockKey], list[BlockKey]]:
    """Split rows, oldest first, into the ones to evict for `wanted_bytes` and the exempt ones before them."""
    victims: list[BlockKey] = []
    spared: list[BlockKey] = []
    for row in rows:
        if wanted_bytes <= 0:
            break
        if exempt(*row.key[:2]):
            spared.append(row.key)
        else:
            victims.append(row.key)
            wanted_bytes -= row.length + OVERHEAD_BYTES
    return victims, spared
