"""How the tree tells those above it what changed: the kernel's caches, later desktops and watchers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cloudfs.types import Ino, Kind

__all__ = ["ChangeSink", "NullSink", "Overheard"]


class ChangeSink(Protocol):
    """Called on the trio loop after the change is committed; must return at once and never raise.

    Only changes that did not come in through the mount itself are announced: the kernel knows its own.
    """

    def entry_changed(self, parent: Ino, name: str) -> None:
        """A name in a folder appeared or now means another node."""
        ...

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:
        """A name in a folder is gone; `ino` is the node it meant."""
        ...

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        """Attributes of a node changed; with `content` also its bytes."""
        ...


class NullSink:
    """Listens to nothing: for tests and for a tree without a mount."""

    def entry_changed(self, parent: Ino, name: str) -> None:
        """Ignore."""

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:
        """Ignore."""

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        """Ignore."""


class Overheard:
    """Tells another sink everything, and somebody else that there was something."""

    def __init__(self, sink: ChangeSink, heard: Callable[[], None]) -> None:
        self._sink = sink
        self._heard = heard

    def entry_changed(self, parent: Ino, name: str) -> None:
        """Pass it on."""
        self._sink.entry_changed(parent, name)
        self._heard()

    def entry_removed(self, parent: Ino, name: str, ino: Ino, kind: Kind = Kind.FILE) -> None:
        """Pass it on."""
        self._sink.entry_removed(parent, name, ino, kind)
        self._heard()

    def node_changed(self, ino: Ino, *, content: bool) -> None:
        """Pass it on."""
        self._sink.node_changed(ino, content=content)
        self._heard()
