"""Large uploads whose file is removed, replaced by another one, or changed meanwhile: nobody waits for their end.

Only what goes in pieces is broken off, as that leaves no part of a file wherever it is cut. One request over an
existing file would (protocol.md §6; pieces are refused in a share in which files may be changed only), and one of a new
file where a Nextcloud's storage is an object store, which makes no part file (29.0.1, by reading).

What is changed breaks its upload off only before half of it is sent, and once in an hour: what goes up is the file as
it was at one moment, or one that is always being written would never go up. Nor does a new name break anything off:
the pieces belong to the old one, and what they make is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from cloudfs.errors import Unreachable
from cloudfs.remote.protocol import Body
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.sending import CountedBody
from cloudfs.types import ContentVersion, Ino, RemotePath

__all__ = ["FROM_BYTES", "Breaks"]

FROM_BYTES = 16 * 1024 * 1024
"""What is smaller is let come to its end: to find out what became of it would take as long."""
_AGAIN_S = 3600.0


class _Sent(NamedTuple):
    """An upload on its way."""

    scope: trio.CancelScope
    name: str
    """What the server's pieces are noted by, if it goes in such."""
    version: ContentVersion
    body: CountedBody
    size: int

    @property
    def is_half_sent(self) -> bool:
        """At least; what the server had before counts. Where nothing was taken it may have all, and be at its end."""
        return not self.body.taken_bytes or self.body.position * 2 >= self.size


class Breaks:
    """One account's. NO CHECKPOINT in here, but for what is done within `breakable`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.goes_in_pieces: Callable[[str], bool] = lambda _: False
        """Told the name of an upload (see `Remote.put`), whether it is on its way in pieces at the moment."""
        self._sent: dict[Ino, _Sent] = {}
        self._broken_at: dict[Ino, float] = {}
        """When (trio) an upload was broken off last as its file was changed."""

    def review(self) -> None:
        """Break off what is sent of files that have no name any more, or that have just been changed."""
        for ino, sent in self._sent.items():
            node = self._nodes.get(ino)
            is_gone = node is None or not node.linked
            is_changed = node is not None and node.version != sent.version
            if not (is_gone or is_changed) or not self.goes_in_pieces(sent.name):
                continue
            if is_gone or self._is_worth_it(ino, sent):
                sent.scope.cancel()

    def _is_worth_it(self, ino: Ino, sent: _Sent) -> bool:
        now = trio.current_time()
        self._broken_at = {it: at for it, at in self._broken_at.items() if now - at < _AGAIN_S}
        if sent.is_half_sent or ino in self._broken_at or sent.scope.cancel_called:
            return False
        self._broken_at[ino] = now
        return True

    @contextmanager
    def breakable(self, node: Node, path: RemotePath, body: Body, size: int, name: str) -> Iterator[Body]:
        """Hand out a body in the place of `body`; what it is sent with within the block may be broken off.

        Raises Unreachable then: `unsent` where the server cannot have all of it, so that nothing came of it.
        """
        counted = CountedBody(body)
        with trio.CancelScope() as scope:
            self._sent[node.ino] = _Sent(scope, name, node.version, counted, size)
            try:
                yield counted
            finally:
                del self._sent[node.ino]
        if scope.cancelled_caught:
            error = Unreachable("it was changed or removed here meanwhile", subject=path)
            # Where nothing was taken of it the server had all of it before, and may just be putting it together.
            error.unsent = counted.taken_bytes > 0 and counted.position < size
            raise error
