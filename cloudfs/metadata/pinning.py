"""Which files' bytes are always to be here: what was said about the nearest folder above holds, else the defaults.

Pure. A person's word about any folder above a file goes before the account's defaults, however near those are: they are
for what nobody said anything about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cloudfs.paths import is_below
from cloudfs.store.records import Link
from cloudfs.types import ROOT, Ino, Pin

__all__ = ["Defaults", "Stand", "standing"]


class Defaults(msgspec.Struct, frozen=True):
    """What the account's settings say about all that nobody said anything else about."""

    folders: tuple[str, ...] = ()
    """Paths in the mount, beginning with /: what is at or below them is always kept here."""
    most_bytes: int | None = None
    """But no file larger than this."""

    def covers(self, path: str) -> bool:
        """Tell whether a path is at or below one of the folders."""
        return any(is_below(path, folder) for folder in self.folders)

    def keeps(self, path: str, size: int) -> bool:
        """Tell whether a file is to be kept."""
        return (self.most_bytes is None or size <= self.most_bytes) and self.covers(path)


class Stand(NamedTuple):
    """What holds for a node."""

    path: str
    """In the mount, beginning with /."""
    said: Pin | None
    """What a person said that holds here; None: the defaults decide."""
    by: Ino | None
    """About which node it was said: this one, or a folder above."""

    def below(self, ino: Ino, name: str, said: Pin | None) -> Stand:
        """Return what holds for a member of this folder, of which itself `said` is known."""
        path = f"{self.path.rstrip('/')}/{name}"
        return Stand(path, self.said, self.by) if said is None else Stand(path, said, ino)

    def keeps(self, defaults: Defaults, size: int) -> bool:
        """Tell whether a file of that size is always to be here."""
        return defaults.keeps(self.path, size) if self.said is None else self.said is Pin.ALWAYS_LOCAL


def standing(links: Iterable[Link]) -> Stand | None:
    """Return what holds for a node, by itself and the folders above it, nearest first.

    None: the mount does not show it.
    """
    names: list[str] = []
    said: Pin | None = None
    by: Ino | None = None
    for link in links:
        if said is None and link.pin is not None:
            said, by = link.pin, link.ino
        if link.ino == ROOT:
            return Stand("/" + "/".join(reversed(names)), said, by)
        names.append(link.name)
    return None
