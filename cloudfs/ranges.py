"""Byte ranges of a file: which are present, which are missing, which blocks they touch. Pure."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from cloudfs.types import BLOCK_SIZE

__all__ = ["RangeSet", "block_span", "blocks_of"]

_PAIR = struct.Struct("<QQ")


class RangeSet:
    """A set of bytes kept as sorted half-open ranges that neither touch nor overlap."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def total(self) -> int:
        """Number of bytes in the set."""
        return sum(self._stops) - sum(self._starts)

    def copy(self) -> RangeSet:
        """Return an independent copy."""
        twin = RangeSet()
        twin._starts, twin._stops = self._starts.copy(), self._stops.copy()
        return twin

    def add(self, start: int, stop: int) -> None:
        """Add the bytes [start, stop)."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def discard_from(self, offset: int) -> None:
        """Forget every byte at or after offset (the file was cut there)."""
        keep = bisect_left(self._starts, offset)
        del self._starts[keep:], self._stops[keep:]
        if keep and self._stops[-1] > offset:
            self._stops[-1] = offset

    def covers(self, start: int, stop: int) -> bool:
        """Tell whether all of [start, stop) is present; an empty range always is."""
        if start >= stop:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and self._stops[index] >= stop

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """Cut [start, stop) into consecutive (start, stop, present) pieces."""
        index = bisect_right(self._stops, start)
        while start < stop:
            if index >= len(self._starts) or self._starts[index] >= stop:
                yield start, stop, False
                return
            if self._starts[index] > start:
                yield start, self._starts[index], False
                start = self._starts[index]
            end = min(self._stops[index], stop)
            yield start, end, True
            start, index = end, index + 1

    def gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        """List the missing parts of [start, stop)."""
        return [(a, b) for a, b, present in self.pieces(start, stop) if not present]

    def pack(self) -> bytes:
        """Serialise as little-endian pairs of 64-bit numbers."""
        return b"".join(_PAIR.pack(start, stop) for start, stop in self)

    @classmethod
    def unpack(cls, data: bytes) -> RangeSet:
        """Read what `pack` wrote; ValueError on anything else."""
        if len(data) % _PAIR.size:
            msg = "a packed range set has a length that is no multiple of 16"
            raise ValueError(msg)
        return cls(_PAIR.iter_unpack(data))


def blocks_of(start: int, stop: int) -> range:
    """Indexes of the blocks that [start, stop) touches."""
    return range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)) if start < stop else range(0)


def block_span(index: int, size: int) -> tuple[int, int]:
    """Bytes [start, stop) of block `index` in a file of `size` bytes."""
    return index * BLOCK_SIZE, min((index + 1) * BLOCK_SIZE, size)
