"""What is to rest: sending, and fetching what no program reads; what programs read goes on coming.

A person's word is kept in the database: a mount that was paused is paused after the next start. A metered connection
(`throttling`) is looked at anew. What is just being sent is broken off, which is to the others as if the connection had
been cut: it may have arrived, and is found out about before it is sent again. Pieces of a large upload that arrived
stay on the server, and the rest of them goes up later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import Unreachable
from cloudfs.store.store import Store

__all__ = ["METERED", "Pause", "Rest"]

_log = logging.getLogger(__name__)

_KEY = "paused_since"
_PERSON = "somebody paused it"
METERED = "the connection is metered"


class Rest:
    """Whether one kind of work rests now, and why; what of it has begun is broken off. NO CHECKPOINT in here."""

    def __init__(self, work: str, ended: Callable[[], None]) -> None:
        self._work = work
        self._ended = ended
        self._reasons: set[str] = set()
        self._breakable: dict[trio.CancelScope, Callable[[], bool]] = {}

    @property
    def is_on(self) -> bool:
        """Nothing new is to be begun."""
        return bool(self._reasons)

    @property
    def is_metered(self) -> bool:
        """It goes on by itself on another connection."""
        return self._reasons == {METERED}

    def begin(self, reason: str) -> None:
        """Rest from now on."""
        self._reasons.add(reason)
        self.review()

    def review(self) -> None:
        """Break off what may be by now, if this rests."""
        for scope, may_break in self._breakable.items():
            if self.is_on and may_break():
                scope.cancel()

    def end(self, reason: str) -> None:
        """Go on, unless there is another reason."""
        was_on = self.is_on
        self._reasons.discard(reason)
        if was_on and not self.is_on:
            self._ended()

    @contextmanager
    def breakable(self, subject: str, *, may_break: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Have what is inside broken off when a rest begins. Raises Unreachable, `unsent` where it was not begun.

        `may_break`: asked then, and by `review`; False for what has to come to its end.
        """
        if self.is_on:
            error = self._broken_off(subject)
            error.unsent = True
            raise error
        with trio.CancelScope() as scope:
            self._breakable[scope] = may_break
            try:
                yield
            finally:
                del self._breakable[scope]
        if scope.cancelled_caught:
            raise self._broken_off(subject)

    def _broken_off(self, subject: str) -> Unreachable:
        return Unreachable(f"{self._work} is paused", subject=subject)


class Pause:
    """One for an account. `ended` is called when what waited may go on."""

    def __init__(self, store: Store, ended: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self.sending = Rest("sending", ended)
        self.fetching = Rest("fetching what is kept here", ended)
        """What no program reads at the moment."""
        text = store.note(_KEY)
        self.since: float | None = None if text is None else float(text)
        """Unix s: when a person paused it; None: nobody did."""
        if self.is_on:
            self._begin()

    @property
    def is_on(self) -> bool:
        """A person wants nothing new to be sent, nor fetched that no program waits for."""
        return self.since is not None

    def begin(self) -> None:
        """Rest from now on, whatever happens to this process."""
        if self.is_on:
            return
        self.since = time.time()
        self._store.put_note(_KEY, repr(self.since))
        reached("pause noted")
        self._begin()
        _log.info("paused: nothing is sent until `cloudfs resume`")

    def _begin(self) -> None:
        for rest in (self.sending, self.fetching):
            rest.begin(_PERSON)

    def end(self) -> None:
        """Go on."""
        if not self.is_on:
            return
        self.since = None
        self._store.put_note(_KEY, None)
        _log.info("resumed")
        for rest in (self.sending, self.fetching):
            rest.end(_PERSON)
