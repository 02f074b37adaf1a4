"""Long work in slices: between two of them whoever does it awaits a checkpoint, so that others have their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import trio

__all__ = ["slices", "turns"]

T = TypeVar("T")


def slices(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Give items in lists of up to so many."""
    left = iter(items)
    while part := list(islice(left, count)):
        yield part


async def turns(items: Iterable[T], count: int) -> AsyncIterator[list[T]]:
    """Do the same, with a checkpoint after each list. For loops that nothing ends before."""
    for part in slices(items, count):
        yield part
        await trio.lowlevel.checkpoint()
