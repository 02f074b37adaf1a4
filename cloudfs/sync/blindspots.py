"""Where a condition cannot see: versions that may share their ETag with a later one.

Nextcloud makes a file's ETag of its modification second: whatever else is written within that second has the same one,
be it of another size (measured on 29.0.1), and If-Match lets an overwrite or a removal of it pass. A version that was
seen when its second was over is safe: a client that writes later gives the file another second, unless it sets
the time back on purpose. Every other version is looked at again before something is done to it on a condition.
"""

from __future__ import annotations

from cloudfs.remote.etags import may_have_a_double
from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store

__all__ = ["BlindSpots"]


class BlindSpots:
    """Knows of one account's files whether a condition on their version can be relied on."""

    def __init__(self, store: Store, remote: Remote) -> None:
        self._store = store
        self._remote = remote

    def hide(self, node: Node) -> bool:
        """Tell whether the server may have another content under the ETag that we know: then it has to be looked at."""
        if self._store.is_observed(node.ino):
            return True  # seen to be another version
        if not self._remote.features.nextcloud:
            return False
        seen_there_s = None if node.s_parent is None else self._store.seen_there_s(node.s_parent)
        return may_have_a_double(node.remote_version.modified_s, seen_there_s)
