"""Where a condition cannot see: versions that may share their ETag with a later one.

Nextcloud makes a file's ETag of its modification second: whatever else is written within that second has the same one,
be it of another size (measured on 29.0.1), and If-Match lets an overwrite or a removal of it pass. A version that was
seen when its second was over is safe: a client that writes later gives the file another second, unless it sets
the time back on purpose. Every other version is looked at again before something is done to it on a condition.
"""

from __future__ import annotations

import time

from cloudfs.remote.protocol import Remote
from cloudfs.store.records import Node
from cloudfs.store.store import Store

__all__ = ["BlindSpots", "may_have_a_double"]

_MARGIN_S = 3.0
"""Replies tell the time in whole seconds, after they were on their way; clocks are set in between."""


def may_have_a_double(modified_s: int, seen_s: float | None, clock_skew_s: float, now_s: float) -> bool:
    """Tell whether a version may have been written over within its second after it was seen. Pure.

    `seen_s` and `now_s` are by our clock, None for never; `clock_skew_s` how far the server's is ahead of it. What was
    seen in the future was seen before our clock was set back: by how much is not known.
    """
    if seen_s is not None and seen_s > now_s + _MARGIN_S:
        return True
    return seen_s is None or modified_s > seen_s + clock_skew_s - _MARGIN_S


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
        folder = None if node.s_parent is None else self._store.nodes.get(node.s_parent)
        seen_s = None if folder is None else folder.listed_at
        return may_have_a_double(
            node.remote_version.modified_s, seen_s, self._remote.clock_skew_s, time.time()
        )
