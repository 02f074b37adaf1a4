"""Long work in slices: between two of them whoever does it awaits a checkpoint, so that others have their turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

__all__ = ["slices"]

T = TypeVar("T")


def slices(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Give items in lists of up to so many."""
    left = iter(items)
    while part := list(islice(left, count)):
        yield part
