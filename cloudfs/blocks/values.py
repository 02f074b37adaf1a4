"""What becomes of a block in its value file: its plain bytes, or sealed ones. Chosen once, when the cache is opened.

A sealed value is the block's bytes, their tag and nonce, and zeros up to whole sectors where the bytes alone would be
whole ones (`valuefile` goes past the page cache only then). Its mark in the index is a part of the tag: a checksum of
the plain bytes would tell whoever reads the disk what they are.
"""

from __future__ import annotations

import os
import struct
from typing import Protocol

import xxhash

from cloudfs.blocks.rawdisk import BlockKey
from cloudfs.blocks.sealing import NONCE_BYTES, TAG_BYTES, Keys
from cloudfs.types import BLOCK_SIZE, Octets

__all__ = ["PlainValues", "SealedValues", "Values"]

_SECTOR = 4096
_FILE_BYTES = 32 * 1024
"""Smaller values lie in a table (`volume`)."""
_PLACE = struct.Struct("<QQQQ")


class Values(Protocol):
    """How blocks are written and read. One thread at a time calls `close`."""

    copies: bool
    """What `open` returns is other memory than the value."""

    def known_by(self, data: Octets) -> int | None:
        """Return the mark by which the same bytes are known again; None where they cannot be."""
        ...

    def close(self, key: BlockKey, data: Octets, mark: int | None) -> tuple[Octets, int]:
        """Return the value to keep, until the next call, and its mark; `mark` is what `known_by` said."""
        ...

    def open(self, key: BlockKey, value: Octets, length: int, mark: int) -> bytes | None:
        """Return the block, None where the value is not what was kept under this key with this length and mark."""
        ...


class PlainValues:
    """The bytes themselves, with a checksum: against damage, not against malice.

    XXH3 in 63 bits, as a table can hold it: 1 MiB takes 0.03 ms. CRC-32 takes 0.45 ms, an eighth of what it costs to
    bring a block from the network to a program.
    """

    copies = False

    def known_by(self, data: Octets) -> int | None:
        """Return the checksum."""
        return xxhash.xxh3_64_intdigest(data) >> 1

    def close(self, key: BlockKey, data: Octets, mark: int | None) -> tuple[Octets, int]:
        """Return the bytes."""
        del key
        return data, xxhash.xxh3_64_intdigest(data) >> 1 if mark is None else mark

    def open(self, key: BlockKey, value: Octets, length: int, mark: int) -> bytes | None:
        """Compare."""
        del key
        assert isinstance(value, bytes)  # noqa: S101  # what it does not copy is not borrowed
        if len(value) != length or xxhash.xxh3_64_intdigest(value) >> 1 != mark:
            return None
        return value


class SealedValues:
    """Bytes that nobody reads without the key, nor moves to another block: 1 MiB takes 0.35 ms to seal, 0.1 to open."""

    copies = True

    def __init__(self, keys: Keys, store_id: str) -> None:
        self._seal = keys.seal(f"blocks {store_id}")
        self._buffer = memoryview(bytearray(BLOCK_SIZE + _SECTOR))

    def known_by(self, data: Octets) -> int | None:
        """Never: the same bytes are sealed otherwise each time."""
        del data
        return None

    def close(self, key: BlockKey, data: Octets, mark: int | None) -> tuple[Octets, int]:
        """Seal the bytes."""
        del mark
        nonce, end = os.urandom(NONCE_BYTES), len(data) + TAG_BYTES
        self._seal.seal_into(self._buffer[:end], data, _place(key, len(data)), nonce)
        in_sectors = len(data) >= _FILE_BYTES and len(data) % _SECTOR == 0
        padding = _SECTOR - NONCE_BYTES - TAG_BYTES if in_sectors else 0
        self._buffer[end : end + NONCE_BYTES + padding] = nonce + bytes(padding)
        return self._buffer[: end + NONCE_BYTES + padding], _mark(self._buffer[len(data) : end])

    def open(self, key: BlockKey, value: Octets, length: int, mark: int) -> bytes | None:
        """Open the bytes."""
        end = length + TAG_BYTES
        # The index is not sealed: what it says is not believed either.
        if not 0 < length <= BLOCK_SIZE or len(value) < end + NONCE_BYTES or _mark(value[length:end]) != mark:
            return None
        nonce = bytes(value[end : end + NONCE_BYTES])
        return self._seal.open(memoryview(value)[:end], _place(key, length), nonce)


def _place(key: BlockKey, length: int) -> bytes:
    return _PLACE.pack(*key, length)


def _mark(tag: bytes | memoryview) -> int:
    return int.from_bytes(tag[:8], "little") >> 1
