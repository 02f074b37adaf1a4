"""Requests that give a node its place on the server, or take it away: noted until their outcome is known.

A reply may be lost after the server did what it was asked for. The node then goes on here, it is renamed, replaced or
removed, and what it left on the server would be nobody's: it would come back as a foreign file. So the place that was
tried is kept with the node (`Node.tried`), and nothing else is done about the node or the place before a `FindOut`
step has looked there. The same holds for the removal of what the mount goes on showing, under a name of this machine
alone: its absence would be taken for another client's doing, and clean folders and empty files would go here too.

A server also goes on without its client: what it was asked for may be done after a first look. Where that would be
done behind our back, because the node has gone on to another place, nothing is concluded from nothing for a while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trio

from cloudfs.errors import (
    AlreadyExists,
    Changed,
    Locked,
    NotFound,
    ParentMissing,
    ProtocolViolation,
    RemoteError,
    ServerFault,
    Unreachable,
)
from cloudfs.store.nodes import Nodes
from cloudfs.types import Ino

__all__ = ["Doubts", "may_have_arrived"]

_LOST = (Unreachable, ServerFault, ProtocolViolation)
"""What is heard when a reply is lost, on the way or by a proxy that gave up."""
_MET = (AlreadyExists, Changed, NotFound, Locked)
"""What is heard when an earlier request has been carried out meanwhile, or is at work: only a look tells."""

_LATE_S = 10.0
"""So long after its client went away a request may still be carried out: many times what a busy Nextcloud takes."""
_BYTES_A_SECOND = 20e6
"""And so slow a server may be at putting a large file together."""


class Doubts:
    """Keeps what is not known. One for all who give nodes their places; made when the engine starts."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._born = trio.current_time()
        """What was in doubt then was last asked for before."""
        self._until: dict[Ino, float] = {}
        """How long requests about a node, whose replies were lost, may still be carried out."""

    @contextlib.contextmanager
    def trying(self, ino: Ino, place: tuple[Ino, str], size: int = 0) -> Iterator[None]:
        """Note a request of so many bytes for its duration; who commits its success ends the try with it.

        After an error that only a look can explain the doubt stays, until `settle` is called. So does that of an
        earlier request about the node which may still be carried out, whatever is said of a later one. Of what was not
        sent there is none.
        """
        node = self._nodes.get(ino)
        in_doubt = node is not None and node.tried is not None
        self._nodes.begin_try(ino, place)
        try:
            yield
        except RemoteError as error:
            if error.unsent:
                if not in_doubt:
                    self.settle(ino)
                raise
            if isinstance(error, _LOST):
                self._until[ino] = _end_of(trio.current_time(), size)
            if not (_leaves_doubt(error) or (in_doubt and self.may_still_come(ino, size))):
                self.settle(ino)
            raise

    def settle(self, ino: Ino) -> None:
        """The outcome is known. NO CHECKPOINT."""
        self._nodes.end_try(ino)

    def settle_if_over(self, ino: Ino) -> None:
        """The latest request certainly did nothing: so the outcome is known, unless an earlier one may yet come."""
        if trio.current_time() >= self._until.get(ino, 0.0):
            self.settle(ino)

    def may_still_come(self, ino: Ino, size: int) -> bool:
        """Tell whether a request of so many bytes, not carried out when it was looked for, may be so yet."""
        return trio.current_time() < self._until.setdefault(ino, _end_of(self._born, size))

    def require_over(self, ino: Ino, name: str) -> None:
        """Raise Locked while an earlier request may yet make anew what is about to leave its place.

        One that is carried out while it is there does nothing: it exists.
        """
        if trio.current_time() < self._until.get(ino, 0.0):
            raise Locked("an earlier request about it may still be under way", subject=name)
        self._until.pop(ino, None)

    def hand_on(self, ino: Ino, successor: Ino) -> None:
        """Another node stands for the place that was tried."""
        if ino in self._until:
            self._until[successor] = self._until[ino]


def may_have_arrived(error: RemoteError) -> bool:
    """Tell whether a request that failed so may have been carried out all the same, its reply being lost."""
    return isinstance(error, _LOST) and error.temporary and not error.unsent


def _end_of(asked_at: float, size: int) -> float:
    return asked_at + _LATE_S + size / _BYTES_A_SECOND


def _leaves_doubt(error: RemoteError) -> bool:
    if isinstance(error, _LOST):
        return error.temporary
    return isinstance(error, _MET) and not isinstance(error, ParentMissing)
