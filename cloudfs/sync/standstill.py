"""Why nothing at all is sent for a while, though nobody has withdrawn the login: the server has asked for that.

- Maintenance: every request would be refused. Whoever can ask without a login whether it is over (`outages`) reopens.
- Throttling (429): each request that comes too early makes it worse (protocol.md §11). Nobody can shorten it.
"""

from __future__ import annotations

import trio

from cloudfs.errors import Maintenance, RemoteError, Throttled

__all__ = ["Standstill"]

_FIRST_S, _LONGEST_S = 60.0, 1800.0
"""Where a throttling server names no time: Nextcloud counts the failed logins of half an hour."""
_LEAST_S, _MOST_S = 1.0, 60.0
"""Shortest pause whatever it names, doubled each time that it goes on: a time of 0 must not make a storm."""


class Standstill:
    """Raises instead of letting a request go, for as long as the server wants to be left alone."""

    def __init__(self) -> None:
        self.watched = False
        """Somebody finds out when maintenance is over; without that, requests have to."""
        self.began = trio.Event()
        """Set while the server is in maintenance and somebody watches."""
        self.over = trio.Event()
        """Set while it is not."""
        self.over.set()
        self._reason = ""
        self._throttled_until = 0.0
        self._throttlings = 0

    @property
    def in_maintenance(self) -> bool:
        """Requests are held back until `reopen`."""
        return self.began.is_set()

    def until(self) -> float:
        """Return the trio time before which nothing is sent; 0.0 where nothing is held back."""
        return float("inf") if self.in_maintenance else self._throttled_until

    def failed(self, error: RemoteError) -> None:
        """A request failed: hold back further ones where that is what the server asked for."""
        if isinstance(error, Throttled):
            longer = 2.0 ** min(self._throttlings, 10)
            self._throttlings += 1
            if (asked_s := error.retry_after_s) is None:
                pause_s = min(_FIRST_S * longer, _LONGEST_S)
            else:
                pause_s = max(asked_s, min(_LEAST_S * longer, _MOST_S))
            self._throttled_until = max(self._throttled_until, trio.current_time() + pause_s)
        elif isinstance(error, Maintenance) and self.watched:
            self._reason = error.message
            if not self.in_maintenance:
                self.over = trio.Event()
                self.began.set()

    def answered(self) -> None:
        """A request was answered well: nothing is held back any more."""
        self._throttled_until, self._throttlings = 0.0, 0
        self.reopen()

    def reopen(self) -> None:
        """Maintenance is over, or somebody wants the next request to find out; throttling goes on."""
        if self.in_maintenance:
            self.began = trio.Event()
            self.over.set()

    def check(self) -> None:
        """Raise what holds a request back."""
        if self.in_maintenance:
            raise Maintenance(self._reason)
        left_s = self._throttled_until - trio.current_time()
        if left_s > 0:
            message = "the server is throttling us, and is left alone for a while"
            raise Throttled(message, status=429, retry_after_s=left_s)
