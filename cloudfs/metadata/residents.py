"""Who still holds a node: the kernel's lookup counts and our open handles. In memory only.

A node that is unlinked everywhere lives until nobody holds it (unlink-while-open).
"""

from __future__ import annotations

from collections import Counter

from cloudfs.types import Ino

__all__ = ["Residents"]


class Residents:
    """Counts per inode. INVARIANT: no count is ever kept at zero."""

    def __init__(self) -> None:
        self._lookups: Counter[Ino] = Counter()
        self._opens: Counter[Ino] = Counter()

    def remember(self, ino: Ino) -> None:
        """The kernel was handed the inode once more."""
        self._lookups[ino] += 1

    def forget(self, ino: Ino, count: int) -> bool:
        """The kernel gave up `count` of its references; True when nobody holds the node any more."""
        return self._drop(self._lookups, ino, count)

    def opened(self, ino: Ino) -> None:
        """A handle of ours was opened."""
        self._opens[ino] += 1

    def closed(self, ino: Ino) -> bool:
        """A handle of ours was closed; True when nobody holds the node any more."""
        return self._drop(self._opens, ino, 1)

    def is_open(self, ino: Ino) -> bool:
        """Tell whether any handle is open."""
        return ino in self._opens

    def is_held(self, ino: Ino) -> bool:
        """Tell whether the kernel or a handle still refers to the inode."""
        return ino in self._opens or ino in self._lookups

    def _drop(self, counts: Counter[Ino], ino: Ino, count: int) -> bool:
        left = counts[ino] - count
        if left > 0:
            counts[ino] = left
        else:
            del counts[ino]
        return not self.is_held(ino)
