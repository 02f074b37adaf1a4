"""Recognises programs that walk through folders and read their small files one after the other. Pure.

What such programs do, seen through a mount: `grep -r`, `tar` and Python's `os.walk` open the files in the order in
which the folder lists them, `cp -r` in the order of their inodes, `rg` several at once in no order. All of them read
many siblings whole within a short while, and that is what counts here; one file, or two, never do.

    a third file of a folder, after two that were read whole just before      a walk
    the first file of the next folder, after all of the last one's            the same walk, which goes on there
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from cloudfs.types import Ino

__all__ = ["Folders", "Walk", "Walks"]

PAUSE_S = 1.0
"""A program that walks begins with the next file so soon after the last one, even where it has to think about each."""
FEWEST = 2
"""So many files have to have been read whole: a file manager looks into one or two, and people open them one by one."""
AHEAD = 10
"""So many times as many files as were read are fetched ahead, at most."""
MOST_AHEAD = 200
"""Two archives: one that is read while the other one is made."""
_MOST_WALKS = 64
_MOST_BEGUN = 256
_MOST_FOLDERS = 32


class Folders(Protocol):
    """What has to be known about folders."""

    def above(self, folder: Ino) -> Sequence[Ino]:
        """Return the folders above one, the nearest first."""
        ...

    def count_small(self, folder: Ino) -> int:
        """Count its small files, as they are known now."""
        ...


class Walk:
    """One program's way, as far as can be told. Files are counted once, however often they are read."""

    def __init__(self, folder: Ino, above: Sequence[Ino], now: float) -> None:
        self.folder = folder
        self.above = tuple(above)
        self.files = 0
        """So many were read whole, in all folders."""
        self.folders = 1
        self.last_s = now
        self.plan_at = 0
        """With so many files read it is time to look ahead again."""
        self.covered: frozenset[Ino] = frozenset()
        """The next folders that were looked at then: coming to one of these is no reason to look again."""
        self.last_name = ""
        """The file of this folder that was begun last."""
        self.ordered = True
        """The files of this folder were begun in the order of their names."""
        self._again = False
        """The file that was begun last was read before: that leads nowhere."""
        self._whole: OrderedDict[Ino, set[Ino]] = OrderedDict({folder: set()})

    @property
    def ahead_files(self) -> int:
        """So many files may be fetched ahead now; 0 while this may be anything."""
        return 0 if self.files < FEWEST or self._again else min(AHEAD * self.files, MOST_AHEAD)

    def begins(self, ino: Ino, name: str, now: float) -> None:
        """A file of this folder is begun."""
        self._again = self.has_read(ino)
        self.ordered = self.ordered and name >= self.last_name
        self.last_name, self.last_s = name, now

    def has_read(self, ino: Ino) -> bool:
        """Tell whether a file of this folder was read whole."""
        return ino in self._whole[self.folder]

    def read_whole(self, folder: Ino, ino: Ino, now: float) -> None:
        """A file was read to its end."""
        self.last_s = now
        seen = self._whole.get(folder)
        if seen is not None and ino not in seen:
            seen.add(ino)
            self.files += 1

    def is_through(self, folders: Folders) -> bool:
        """Tell whether at least four fifths of the small files of this folder were read."""
        read = len(self._whole[self.folder])
        return bool(read) and folders.count_small(self.folder) * 4 <= read * 5

    def goes_on(self, folder: Ino, above: Sequence[Ino]) -> None:
        """The same program reads in another folder now."""
        self.folder, self.above = folder, tuple(above)
        self.folders += 1
        self.last_name, self.ordered = "", True
        if folder not in self.covered:
            self.plan_at = 0
        self._whole.setdefault(folder, set())
        self._whole.move_to_end(folder)
        if len(self._whole) > _MOST_FOLDERS:
            self._whole.popitem(last=False)


class Walks:
    """All walks of an account; the oldest are forgotten. Times are those of one clock, in seconds."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._walks: OrderedDict[Ino, Walk] = OrderedDict()
        """By the folder in which they are."""
        self._begun: OrderedDict[Ino, tuple[Walk, Ino]] = OrderedDict()
        """Files that are being read, with their folders."""

    def begun(self, ino: Ino, folder: Ino, name: str, now: float) -> Walk:
        """A program begins to read a small file at its start; returns the walk that this is a part of."""
        walk = self._walks.get(folder)
        if walk is None or now - walk.last_s > PAUSE_S:
            walk = self._come_over(folder, now) or Walk(folder, self._folders.above(folder), now)
        self._walks[folder] = walk
        self._walks.move_to_end(folder)
        if len(self._walks) > _MOST_WALKS:
            self._walks.popitem(last=False)
        walk.begins(ino, name, now)
        self._begun[ino] = walk, folder
        if len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)
        return walk

    def ended(self, ino: Ino, now: float) -> None:
        """A file was read to its end. What was not begun at its start does not count."""
        walk, folder = self._begun.pop(ino, (None, None))
        if walk is not None and folder is not None:
            walk.read_whole(folder, ino, now)

    def _come_over(self, folder: Ino, now: float) -> Walk | None:
        """Find the walk that goes on in a folder: from the one above, or through with one beside or below it."""
        above = self._folders.above(folder)
        for walk in reversed(self._walks.values()):
            if now - walk.last_s > PAUSE_S:
                continue
            deeper = bool(above) and above[0] == walk.folder and walk.files >= FEWEST
            near = folder in walk.above or (bool(above) and above[0] in walk.above)
            if deeper or (near and walk.is_through(self._folders)):
                del self._walks[walk.folder]
                walk.goes_on(folder, above)
                return walk
        return None
