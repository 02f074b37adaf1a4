"""Where in memory bytes are: what lies there one after the other needs no copy to be one piece."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from cloudfs.types import Octets

__all__ = ["address_of", "together"]


def address_of(octets: Octets) -> int | None:
    """Return where bytes begin in memory; None where that cannot be told: only of memory that can be written to."""
    if isinstance(octets, bytes) or octets.readonly or not octets.nbytes:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(octets))


def together(pieces: Sequence[memoryview]) -> memoryview | None:
    """Return pieces as one view, where they are, one after the other, all of the object whose memory they lie in."""
    whole = memoryview(pieces[0].obj).cast("B")
    if whole.nbytes != sum(piece.nbytes for piece in pieces):
        return None
    if len(pieces) == 1:
        return pieces[0]
    at = address_of(whole)
    for piece in pieces:
        if at is None or address_of(piece) != at:
            return None
        at += piece.nbytes
    return whole
