"""Large uploads whose file is removed, replaced by another one, or changed meanwhile: nobody waits for their end.

What is changed breaks its upload off only before half of it is sent, and once in an hour: what goes up is the file as
it was at one moment, or one that is always being written would never go up. Nor does a new name break anything off:
what arrived under the old one is moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from cloudfs.errors import Unreachable
from cloudfs.remote.onego import MOST_BYTES
from cloudfs.remote.protocol import Body, Condition, Features
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.sending import CountedBody
from cloudfs.types import ContentVersion, Ino, RemotePath

__all__ = ["FROM_BYTES", "Breaks", "goes_in_pieces"]

FROM_BYTES = 16 * 1024 * 1024
"""What is smaller is let come to its end: to find out what became of it would take as long."""
_AGAIN_S = 3600.0


def goes_in_pieces(features: Features, condition: Condition, size: int) -> bool:
    """Tell whether an upload leaves no part of a file wherever it is broken off, whatever the server's storage is.

    One in a single request may, of a new file: on an object store a Nextcloud makes no part file (29.0.1, by reading).
    """
    most_whole = MOST_BYTES if condition.absent else FROM_BYTES - 1
    return features.nextcloud and features.chunking and size > most_whole


class _Sent(NamedTuple):
    """An upload on its way."""

    scope: trio.CancelScope
    version: ContentVersion
    body: CountedBody
    size: int


class Breaks:
    """One account's. NO CHECKPOINT in here, but for what is done within `breakable`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._sent: dict[Ino, _Sent] = {}
        self._broken_at: dict[Ino, float] = {}
        """When (trio) an upload was broken off last as its file was changed."""

    def review(self) -> None:
        """Break off what is sent of files that have no name any more, or that have just been changed."""
        for ino, sent in self._sent.items():
            node = self._nodes.get(ino)
            if (
                node is None
                or not node.linked
                or (node.version != sent.version and self._is_worth_it(ino, sent))
            ):
                sent.scope.cancel()

    def _is_worth_it(self, ino: Ino, sent: _Sent) -> bool:
        now = trio.current_time()
        self._broken_at = {it: at for it, at in self._broken_at.items() if now - at < _AGAIN_S}
        if sent.body.position * 2 >= sent.size or ino in self._broken_at or sent.scope.cancel_called:
            return False
        self._broken_at[ino] = now
        return True

    @contextmanager
    def breakable(self, node: Node, path: RemotePath, body: Body, size: int) -> Iterator[Body]:
        """Hand out a body in the place of `body`; what it is sent with within the block may be broken off.

        Raises Unreachable then: `unsent` where the server cannot have all of it, so that nothing came of it.
        """
        counted = CountedBody(body)
        with trio.CancelScope() as scope:
            self._sent[node.ino] = _Sent(scope, node.version, counted, size)
            try:
                yield counted
            finally:
                del self._sent[node.ino]
        if scope.cancelled_caught:
            error = Unreachable("it was changed or removed here meanwhile", subject=path)
            # Where nothing was taken of it the server had all of it before, and may just be putting it together.
            error.unsent = counted.taken_bytes > 0 and counted.position < size
            raise error
