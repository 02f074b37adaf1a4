"""What the server can be told about one node. Each step carries the nodes it was planned from.

A step is only carried out while those nodes are exactly as planned; otherwise the next plan decides anew.
"""

from __future__ import annotations

import msgspec

from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["FindOut", "MakeFolder", "Move", "MoveAside", "Remove", "SetTime", "Step", "Upload"]


class _Base(msgspec.Struct, frozen=True, kw_only=True):
    node: Node
    after: frozenset[Ino] = frozenset()
    """Nodes whose own steps have to be done first."""

    @property
    def involved(self) -> tuple[Node, ...]:
        """Nodes that must be as planned when the step starts."""
        return (self.node,)

    @property
    def structural(self) -> bool:
        """The step changes the server's paths of everything below the node."""
        return False


class FindOut(_Base, frozen=True):
    """Look what became of a request about the node whose reply was lost (`sync/doubts.py`)."""


class MakeFolder(_Base, frozen=True):
    """Create a folder in its synced parent."""


class Upload(_Base, frozen=True):
    """Send a file's content: as a new file, over its own synced version, or onto `onto`.

    `onto`: a file that the mount no longer shows in this place. Its name, file id, versions, shares and
    comments go over to the content that took its place, as with a save by "write new, rename over".
    """

    onto: Node | None = None

    @property
    def involved(self) -> tuple[Node, ...]:
        """The file, and the one whose identity it takes over."""
        return (self.node,) if self.onto is None else (self.node, self.onto)


class Move(_Base, frozen=True):
    """Rename a synced node to where the mount shows it; the name is free there by then."""

    @property
    def structural(self) -> bool:
        """A folder takes its members along."""
        return bool(self.node.folder)


class MoveAside(_Base, frozen=True):
    """Break a cycle of renames (an exchange): give a node a name of its own for the moment."""

    @property
    def structural(self) -> bool:
        """A folder takes its members along."""
        return bool(self.node.folder)


class Remove(_Base, frozen=True):
    """Delete a node on the server that the mount shows no more, or only locally."""

    @property
    def structural(self) -> bool:
        """A folder takes its members along."""
        return bool(self.node.folder)


class SetTime(_Base, frozen=True):
    """Send a modification time."""


Step = FindOut | MakeFolder | Upload | Move | MoveAside | Remove | SetTime
