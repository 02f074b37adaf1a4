"""Names that nodes may take in a folder. Asks the store, changes nothing."""

from __future__ import annotations

import datetime as dt

from cloudfs.paths import conflicted_copy, is_local_only
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.types import Ino

__all__ = ["free_copy_name", "is_free", "stays_local"]


def stays_local(name: str, parent: Node) -> bool:
    """Tell whether a new node of this name in this folder never goes up."""
    return bool(parent.local_only) or is_local_only(name)


def is_free(nodes: Nodes, folder: Ino, name: str) -> bool:
    """Tell whether neither the mount nor the server is known to have a name."""
    return nodes.child(folder, name) is None and nodes.synced_child(folder, name) is None


def free_copy_name(nodes: Nodes, folder: Ino, name: str) -> str:
    """Return a conflicted copy's name that is free."""
    now, attempt = dt.datetime.now().astimezone(), 0
    while not is_free(nodes, folder, copy := conflicted_copy(name, now, attempt)):
        attempt += 1
    return copy
