"""Which names our own steps change on the server, so that an older listing cannot undo them.

A listing shows the server at some moment between request and reply. A step of ours that ran in that time may
or may not be in it, so the names that it touched are left out of the merge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from cloudfs.types import Ino

__all__ = ["TouchLog"]

_NOTHING = ""
"""A name that no member has."""


class TouchLog:
    """Names by folder; entries live while a listing that they could spoil is under way."""

    def __init__(self) -> None:
        self._listings: dict[object, dict[Ino, set[str]]] = {}
        self._active: list[tuple[Ino, str]] = []

    @contextlib.contextmanager
    def listing(self) -> Iterator[dict[Ino, set[str]]]:
        """Collect, from before the request until the merge, the names touched in each folder."""
        token, seen = object(), dict[Ino, set[str]]()
        self._listings[token] = seen
        for folder, name in self._active:
            seen.setdefault(folder, set()).add(name)
        try:
            yield seen
        finally:
            del self._listings[token]

    def doubt(self, folder: Ino) -> None:
        """Something was learnt of a folder that listings under way may be too old for: none counts as whole."""
        for seen in self._listings.values():
            seen.setdefault(folder, set()).add(_NOTHING)

    @contextlib.contextmanager
    def step(self, places: Iterable[tuple[Ino, str]]) -> Iterator[None]:
        """Mark (folder, name) places as being changed on the server by us, until the result is committed."""
        touched = list(places)
        self._active += touched
        for seen in self._listings.values():
            for folder, name in touched:
                seen.setdefault(folder, set()).add(name)
        try:
            yield
        finally:
            for place in touched:
                self._active.remove(place)
