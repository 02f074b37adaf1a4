"""Nodes that requests put somewhere on the server, where the outcome is not known (yet)."""

from __future__ import annotations

from cloudfs.store.records import Node
from cloudfs.store.ways import Ways
from cloudfs.types import Ino

__all__ = ["Tries"]

_ANY_TRIED = "SELECT 1 FROM nodes INDEXED BY nodes_tried WHERE t_parent IS NOT NULL LIMIT 1"


class Tries(Ways):
    """The rows of `nodes` seen so; a part of `Nodes`."""

    def tried(self) -> list[Node]:
        """Return the nodes that requests put somewhere on the server whose outcome is not known (yet)."""
        return self._many("t_parent IS NOT NULL", ())

    def tried_child(self, parent: Ino, name: str) -> Node | None:
        """Return the node that such a request may have put under a name."""
        return self._one("t_parent IS NOT NULL AND t_parent = ? AND t_name = ?", (parent, name))

    def is_in_doubt(self, ino: Ino) -> bool:
        """Tell whether a request of unknown outcome may have moved a node, or a folder above it on the server."""
        if self._db.execute(_ANY_TRIED).fetchone() is None:
            return False  # as nearly always
        above = (self.get(it) for it in (ino, *self.synced_ancestors(ino)))
        return any(node is not None and node.tried is not None for node in above)

    def names_in_doubt(self, folder: Ino) -> set[str]:
        """Return the names in a folder on the server that nodes in doubt had, or may have by now."""
        return {
            name
            for node in self.tried()
            for parent, name in ((node.s_parent, node.s_name), (node.t_parent, node.t_name))
            if parent == folder and name is not None
        }
