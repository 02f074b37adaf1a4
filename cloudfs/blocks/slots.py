"""The format of a sealed staging file: chunks, each with four slots, of which the newest that opens counts.

    FILE  = region 0 (what is known of the whole file) · region 1 (chunk 0) · region 2 (chunk 1) …
    REGION = four slots of SLOT_BYTES; SLOT = header (32 bytes) · sealed bytes, up to CHUNK_BYTES · tag (16 bytes)

A chunk cannot be changed in place: a write that is torn, by a kill or by a power cut, would leave nothing that opens,
and take bytes with it that programs were told are safe. So a chunk is always written anew, into a slot that nothing
depends on (`Rewritten`), under the next number. Slots begin at pages of their own, so that a torn write of one leaves
the others alone. What was never written is a hole: one slot of four is used where nothing is written twice.

The key is the file's own, and number, chunk, slot and length are bound to the bytes, so no slot can stand in for
another.

64 KiB: a chunk costs 10 µs to seal and 8 to open beside 30 µs of Python; 16 KiB cost three times as much for a large
write, and save 20 µs of the 60 that a small one takes. A full chunk takes 68 KiB of the disk.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from cloudfs.blocks.sealing import NONCE_BYTES, TAG_BYTES, Seal

__all__ = [
    "CHUNK_BYTES",
    "REGION_BYTES",
    "SLOTS",
    "SLOT_BYTES",
    "Found",
    "Rewritten",
    "find",
    "pack",
    "slot_at",
]

CHUNK_BYTES = 64 * 1024
SLOT_BYTES = CHUNK_BYTES + 4096
SLOTS = 4
REGION_BYTES = SLOTS * SLOT_BYTES

_MAGIC = b"cfs\x01"
_HEADER = struct.Struct("<4sIQ12s4x")
_PLACE = struct.Struct("<QQQI")


class Rewritten(NamedTuple):
    """The slots of a chunk that was written again since it was last on the disk for sure; None for no slot.

    Whatever happens next, a kill or a power cut, one of these three holds what a program was told is safe.
    """

    durable: int | None
    """What the disk has."""
    syncing: int | None
    """What an fsync is just bringing there."""
    latest: int
    """What programs read."""
    number: int
    """Of the latest."""

    @property
    def free(self) -> int:
        """The first slot that nothing depends on."""
        return next(slot for slot in range(SLOTS) if slot not in self[:3])


class Found(NamedTuple):
    """What a region holds."""

    slot: int | None
    """The one that counts; None: none opens."""
    number: int
    data: bytes
    torn: bool
    """A newer one, or the only one, does not open: its write was cut off, or it is damaged."""


def slot_at(region: int, slot: int) -> int:
    """Return where a slot begins in the file."""
    return region * REGION_BYTES + slot * SLOT_BYTES


def pack(seal: Seal, region: int, slot: int, number: int, data: bytes | memoryview) -> bytes:
    """Return a slot's bytes."""
    nonce = os.urandom(NONCE_BYTES)
    sealed = seal.seal(data, _PLACE.pack(region, slot, number, len(data)), nonce)
    return _HEADER.pack(_MAGIC, len(data), number, nonce) + sealed


def find(seal: Seal, fd: int, region: int) -> Found:
    """Read a region: the slot with the highest number that opens. Raises OSError."""
    torn, highest = False, 0
    for number, slot, length, nonce in _candidates(fd, region):
        highest = max(highest, number)
        sealed = _read(fd, length + TAG_BYTES, slot_at(region, slot) + _HEADER.size)
        data = seal.open(sealed, _PLACE.pack(region, slot, number, length), nonce)
        if data is not None:
            return Found(slot, highest, data, torn)
        torn = True
    return Found(None, highest, b"", torn)


def _read(fd: int, size: int, offset: int) -> bytes:
    """Return so many bytes, fewer at the end of the file."""
    data = os.pread(fd, size, offset)
    while 0 < len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


def _candidates(fd: int, region: int) -> list[tuple[int, int, int, bytes]]:
    """Return what the slots say of themselves, number, slot, length and nonce, the highest number first."""
    return sorted(_headers(fd, region), reverse=True)


def _headers(fd: int, region: int) -> Iterator[tuple[int, int, int, bytes]]:
    for slot in _used(fd, region):
        header = _read(fd, _HEADER.size, slot_at(region, slot))
        if len(header) == _HEADER.size and header != bytes(_HEADER.size):
            magic, length, number, nonce = _HEADER.unpack(header)
            # What is no header of ours may be all that is left of one.
            known = magic == _MAGIC and length <= CHUNK_BYTES and number < 1 << 62
            yield (number, slot, length, nonce) if known else (0, slot, 0, bytes(NONCE_BYTES))


def _used(fd: int, region: int) -> Iterator[int]:
    """Find the slots that are no holes: reading those takes ten times as long as asking for them."""
    slot = 0
    while slot < SLOTS:
        try:
            at = os.lseek(fd, slot_at(region, slot), os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no more data in the file
                raise
            return
        slot = (at - slot_at(region, 0)) // SLOT_BYTES
        if slot < SLOTS:
            yield slot
        slot += 1
