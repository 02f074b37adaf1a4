"""Large uploads whose file is removed, or replaced by another one, meanwhile: nobody waits for their end.

What is only written meanwhile breaks nothing off: what goes up is the file as it was at one moment, or one that is
always being written would never go up. Nor does a new name: what arrived under the old one is moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from cloudfs.errors import Unreachable
from cloudfs.remote.protocol import Body, Condition, Features
from cloudfs.store.nodes import Nodes
from cloudfs.sync.sending import CountedBody
from cloudfs.types import Ino, RemotePath

__all__ = ["FROM_BYTES", "Breaks", "may_be_cut"]

FROM_BYTES = 16 * 1024 * 1024
"""What is smaller is let come to its end: to find out what became of it would take as long."""


def may_be_cut(features: Features, condition: Condition) -> bool:
    """Tell whether an upload can be broken off: elsewhere a part of it may become the file (protocol.md §6)."""
    return features.nextcloud and (condition.absent or features.chunking)


class Breaks:
    """One account's. NO CHECKPOINT in here, but for what is done within `breakable`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._scopes: dict[Ino, trio.CancelScope] = {}

    def review(self) -> None:
        """Break off what is sent of files that have no name any more."""
        for ino, scope in self._scopes.items():
            node = self._nodes.get(ino)
            if node is None or not node.linked:
                scope.cancel()

    @contextmanager
    def breakable(self, ino: Ino, path: RemotePath, body: Body, size: int) -> Iterator[Body]:
        """Hand out a body in the place of `body`; what it is sent with within the block may be broken off.

        Raises Unreachable then: `unsent` where the server cannot have all of it, so that nothing came of it.
        """
        counted = CountedBody(body)
        with trio.CancelScope() as scope:
            self._scopes[ino] = scope
            try:
                yield counted
            finally:
                del self._scopes[ino]
        if scope.cancelled_caught:
            error = Unreachable("it was removed here meanwhile", subject=path)
            error.unsent = counted.position < size
            raise error
