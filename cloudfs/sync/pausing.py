"""A person's word that sending, and fetching ahead, is to rest; what programs read goes on coming.

It is kept in the database: a mount that was paused is paused after the next start. What is just being sent is broken
off, which is to the others as if the connection had been cut: it may have arrived, and is found out about before it is
sent again. Pieces of a large upload that arrived stay on the server, and the rest of them goes up later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from cloudfs.errors import Unreachable
from cloudfs.store.store import Store

__all__ = ["Pause"]

_log = logging.getLogger(__name__)

_KEY = "paused_since"


class Pause:
    """One for an account. `ended` is called when what waited may go on."""

    def __init__(self, store: Store, ended: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._ended = ended
        text = store.note(_KEY)
        self.since: float | None = None if text is None else float(text)
        """Unix s: when it began; None: nothing is paused."""
        self._breakable: set[trio.CancelScope] = set()

    @property
    def is_on(self) -> bool:
        """Nothing new is to be sent, nor fetched that no program waits for."""
        return self.since is not None

    def begin(self) -> None:
        """Rest from now on, whatever happens to this process."""
        if self.is_on:
            return
        self.since = time.time()
        self._store.put_note(_KEY, repr(self.since))
        for scope in self._breakable:
            scope.cancel()
        _log.info("paused: nothing is sent until `cloudfs resume`")

    def end(self) -> None:
        """Go on."""
        if not self.is_on:
            return
        self.since = None
        self._store.put_note(_KEY, None)
        _log.info("resumed")
        self._ended()

    @contextmanager
    def breakable(self, subject: str) -> Iterator[None]:
        """Have what is inside broken off when a pause begins. Raises Unreachable, `unsent` where it was not begun."""
        if self.is_on:
            error = _broken_off(subject)
            error.unsent = True
            raise error
        with trio.CancelScope() as scope:
            self._breakable.add(scope)
            try:
                yield
            finally:
                self._breakable.discard(scope)
        if scope.cancelled_caught:
            raise _broken_off(subject)


def _broken_off(subject: str) -> Unreachable:
    return Unreachable("sending is paused", subject=subject)
