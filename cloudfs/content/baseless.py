"""Which files have all their bytes in staging files, as far as the rows tell."""

from __future__ import annotations

from cloudfs.ranges import RangeSet
from cloudfs.store.records import Node
from cloudfs.store.store import Store

__all__ = ["baseless", "lacks_bytes"]


def baseless(store: Store) -> list[Node]:
    """Return the files that lost what they were edited from, of those whose names never go up; 1 µs per staging file.

    Of any other such file its upload tells (`BaseLost`).
    """
    nodes = map(store.nodes.get, store.based_on_server_here())
    return [node for node in nodes if node is not None and lacks_bytes(store, node)]


def lacks_bytes(store: Store, node: Node) -> bool:
    """Tell whether some bytes of a file are those of a version of the server's."""
    version, gaps = node.version, [(0, node.size)]
    while gaps and (row := store.staged(node.ino, version)) is not None:
        present, limit = RangeSet.unpack(row.present), min(row.base_limit, row.size)
        gaps = [gap for start, stop in gaps for gap in present.gaps(start, min(stop, limit))]
        version = row.base
    return bool(gaps)
