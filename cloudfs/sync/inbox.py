"""Where the floors below leave word that something changed; the worker reads it when it has time."""

from __future__ import annotations

import trio

from cloudfs.concurrency.times import Times
from cloudfs.errors import Forbidden, QuotaExceeded
from cloudfs.sync.troubles import Troubles
from cloudfs.types import Ino

__all__ = ["Inbox"]

_MOST = 20_000
"""Of more changes the oldest have no time any more, and are due at once. What stays here, or is removed before it was
sent, changes too, and no step about it would ever end its note."""


class Inbox:
    """Times of the last change per node, and the bell that wakes the worker. Never waits."""

    def __init__(self) -> None:
        self.troubles = Troubles()
        self._changed_at = Times[Ino](_MOST)
        self._emptied_at = Times[Ino](_MOST)
        self._bell = trio.Event()

    def notify(self, ino: Ino) -> None:
        """A node has new work for the server, or what held it up is over: start afresh with it."""
        self._changed_at.note(ino)
        self.troubles.forget(ino)
        self._bell.set()

    def emptied(self, folder: Ino) -> None:
        """Something was removed from a folder: more may follow, and the folder in the end."""
        self._emptied_at.note(folder)

    def ring(self) -> None:
        """Have the worker look again."""
        self._bell.set()

    def start_afresh(self) -> None:
        """What held up much is over: all that could not be sent is due."""
        self.troubles.retry_all()
        self._bell.set()

    def has_room(self) -> None:
        """The account has more room than when it was last asked about."""
        self.troubles.retry_refused(QuotaExceeded)
        self._bell.set()

    def may_more(self) -> None:
        """The server was seen to allow something that it did not allow before."""
        self.troubles.retry_refused(Forbidden)
        self._bell.set()

    def listen(self) -> trio.Event:
        """Return a bell that rings at the next change from now on."""
        self._bell = trio.Event()
        return self._bell

    def changed_at(self, ino: Ino) -> float:
        """Return the trio time of a node's last change; minus infinity when that was before the process started."""
        return self._changed_at.of(ino)

    def emptied_at(self, folder: Ino) -> float:
        """Return the trio time of the last removal from a folder; minus infinity: none is known."""
        return self._emptied_at.of(folder)
