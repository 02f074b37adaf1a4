"""Long work in slices: between two of them whoever does it awaits a checkpoint, so that others have their turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import trio

__all__ = ["let_go", "slices", "turns"]

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


async def let_go(items: list[Any] | dict[Any, Any], count: int) -> None:
    """Empty what nobody else needs, with a checkpoint after so many.

    To free a hundred thousand objects at once, as at the end of a function, takes 20 ms.
    """
    while items:
        if isinstance(items, list):
            del items[-count:]
        else:
            for _ in range(min(count, len(items))):
                items.popitem()
        await trio.lowlevel.checkpoint()
