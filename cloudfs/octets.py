"""Where in memory bytes are: what lies there one after the other needs no copy to be one piece."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from cloudfs.types import Octets

__all__ = ["address_of", "is_all", "joined", "together"]


def address_of(octets: Octets) -> int | None:
    """Return where bytes begin in memory; None where that cannot be told: only of memory that can be written to."""
    if isinstance(octets, bytes) or octets.readonly or not octets.nbytes:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(octets))


def together(before: memoryview, after: memoryview) -> memoryview | None:
    """Return two pieces as one, where the second lies right behind the first in the memory of the same object."""
    start, end = address_of(before), address_of(after)
    if start is None or before.obj is not after.obj or end != start + before.nbytes:
        return None
    whole = memoryview(before.obj).cast("B")
    first = start - (address_of(whole) or start)
    return whole[first : first + before.nbytes + after.nbytes]


def is_all(piece: memoryview) -> bool:
    """Tell whether a piece is all of the object in whose memory it lies."""
    return piece.nbytes == memoryview(piece.obj).nbytes


def joined(parts: Sequence[Octets]) -> Octets:
    """Return parts as one piece: without a copy where they lie in memory like that."""
    whole: Octets = parts[0] if parts else b""
    for part in parts[1:]:
        if isinstance(whole, bytes) or isinstance(part, bytes) or (both := together(whole, part)) is None:
            return b"".join(parts)
        whole = both
    return whole
