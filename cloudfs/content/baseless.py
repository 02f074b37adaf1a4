"""Files under names of this machine alone of which some bytes are nowhere: those of a base that the server has no more.

Of any other such file the upload tells (`BaseLost`). These never go up, so what is known of them follows from the rows.
"""

from __future__ import annotations

from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node
from cloudfs.store.store import Store

__all__ = ["baseless"]


def baseless(store: Store) -> list[Node]:
    """Return the files that the mount shows and that nobody can read in full any more; 1 µs per staging file."""
    nodes = map(store.nodes.get, store.based_on_server_here())
    return [node for node in nodes if node is not None and _lacks_bytes(store, node)]


def _lacks_bytes(store: Store, node: Node) -> bool:
    version, gaps = node.version, [(0, node.size)]
    while gaps and (row := store.staged(node.ino, version)) is not None:
        present, limit = RangeSet.unpack(row.present), min(row.base_limit, row.size)
        gaps = [gap for start, stop in gaps for gap in present.gaps(start, min(stop, limit))]
        version = row.base
    return bool(gaps)
