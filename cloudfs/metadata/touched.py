"""Which names our own steps change on the server, so that an older listing cannot undo them.

A listing shows the server at some moment between request and reply. A step of ours that ran in that time may
or may not be in it, so the names that it touched are left out of the merge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

from cloudfs.store.nodes import Nodes
from cloudfs.types import Ino, RemoteEntry

__all__ = ["TouchLog", "other_names"]

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


def other_names(
    nodes: Nodes, folder: Ino, touched: Collection[str], members: Iterable[RemoteEntry]
) -> set[str]:
    """Return the names under which a listing shows what the server had under touched ones: another client's renames.

    They have to wait with these, or would be taken for new files, and what follows them could not follow any more.
    """
    before = [nodes.synced_child(folder, name) for name in touched]
    ids = {node.s_file_id for node in before if node is not None and node.s_file_id is not None}
    return {entry.name for entry in members if entry.file_id in ids} if ids else set()
