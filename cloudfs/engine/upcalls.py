"""The late bindings of an engine, all of them: calls to what is made after those who call it."""

from __future__ import annotations

from cloudfs.metadata.listing import Lister
from cloudfs.sync.hydrating import Hydrator
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.watching import Watcher
from cloudfs.types import Ino

__all__ = ["Upcalls"]


class Upcalls:
    """The rooms below call it, those above fill it in. Nothing calls before all are filled in (AttributeError)."""

    lister: Lister
    watcher: Watcher
    hydrator: Hydrator

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def changed(self, ino: Ino) -> None:
        """A node has new work for the server, and maybe for what is always here."""
        self._inbox.notify(ino)
        self.hydrator.wake()

    def outdated(self, ino: Ino) -> None:
        """A file turned out to be another version on the server."""
        self.lister.outdated(ino)

    def heard(self) -> None:
        """Something that others changed was announced to the kernel."""
        self.hydrator.wake()

    def resumed(self) -> None:
        """What was paused goes on."""
        self._inbox.ring()
        self.hydrator.wake()

    def returned(self) -> None:
        """The server can be asked again."""
        self.resumed()
        self.watcher.wake()

    def left_alone(self) -> None:
        """Nothing is to be sent for a while."""
        self.watcher.wake()
