"""A large new file in one request, where the line is known to be quick; a smaller one unless it is known not to be.

In pieces a file costs the server its bytes twice, as it copies them together (protocol.md §7: 50 MiB take twice as
long). What pieces are for, that little is lost with a connection, matters little where all of it takes seconds. How
quick a line is shows by what went up lately. Nothing is begun whole to find that out: a request that is cut may leave
a part of a new file, where a Nextcloud's storage is an object store (29.0.1, `needsPartFile`, by reading). So where
nothing is known the file is begun in pieces, a small one first; where that shows a quick line, all of it is sent whole
after all (`goes_whole_after`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

__all__ = ["MOST_BYTES", "OneGo"]

MOST_BYTES = 256 * 1024 * 1024
"""Larger files always go in pieces."""

_PIECES_BYTES = 16 * 1024 * 1024
"""What is smaller goes in one request on any line that takes it."""
_MOST_S = 10.0
_TELLING_BYTES = 4 * 1024 * 1024
"""Of less the request costs more than the bytes."""
_KNOWN_S = 600.0
_SENT_TWICE = 1 / 8
"""Of a file that went in pieces so far, at most so much is sent once more in one request: having the server copy all of
it together takes longer than that on a line that counts as quick."""


class OneGo:
    """Decides for one account. Made and used on the loop's thread."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: larger files always go in pieces."""
        self._most_bytes = most_bytes
        self._bytes_per_s = 0.0
        self._known_at = -math.inf
        self._failed_bytes = math.inf
        """So much did not go through in one request."""
        self._failed_at = -math.inf

    def has_failed(self, size: int) -> bool:
        """Tell whether so much was not taken in one request in the last ten minutes."""
        return size >= self._failed_bytes and trio.current_time() - self._failed_at < _KNOWN_S

    def may_show(self, size: int, sent_in_time: int) -> bool:
        """Tell whether a file would go in one request if only the line turned out to be quick; see `is_quick`."""
        return size <= min(self._most_bytes, sent_in_time) and not self.has_failed(size)

    def is_quick(self, size: int, sent_in_time: int) -> bool:
        """Tell whether all of a file goes up within 10 s; `sent_in_time`: what a limit in force lets go in these."""
        return self.may_show(size, sent_in_time) and size <= self.known_bytes

    @staticmethod
    def is_little(sent: int, size: int) -> bool:
        """Tell whether so much of a file may be sent twice."""
        return sent <= size * _SENT_TWICE

    def goes_whole_after(self, sent: int, size: int, sent_in_time: int) -> bool:
        """Tell whether a file of which so much has gone up in pieces, is rather sent anew in one request."""
        return self.is_little(sent, size) and self.is_quick(size, sent_in_time)

    def first_piece_bytes(self, usual: int) -> int:
        """Return how long the first piece is to be of what cannot go whole: on a quick line longer than `usual`.

        Each piece costs the server a request, and what is lost with a connection is little on any line: ten seconds.
        """
        quick = int(min(self._most_bytes, self.known_bytes))
        wanted = usual if self.has_failed(quick) else max(usual, quick)
        lasts = trio.current_time() - self._failed_at < _KNOWN_S
        return min(wanted, int(self._failed_bytes) // 2) if lasts else wanted

    @property
    def known_bytes(self) -> float:
        """So many go up within 10 s, as far as is known: 0 for nothing."""
        known = trio.current_time() - self._known_at < _KNOWN_S
        return self._bytes_per_s * _MOST_S if known else 0.0

    @property
    def most_s(self) -> float:
        """Longest time that all of it may take."""
        return _MOST_S

    def is_slow(self, size: int, sent_in_time: int) -> bool:
        """Tell whether all of a file is known not to go up within 10 s: then it is worth pieces, where it is large."""
        known = self.known_bytes
        return size >= _PIECES_BYTES and known > 0 and size > min(sent_in_time, known)

    def failed(self, size: int) -> None:
        """The line broke, or something on it takes no such bodies: none of that size in one request for ten minutes.

        Nor is anything known of the line, until pieces show it.
        """
        now = trio.current_time()
        lasts = now - self._failed_at < _KNOWN_S
        self._failed_bytes = min(size, self._failed_bytes) if lasts else size
        self._failed_at = now
        self.forget()

    def forget(self) -> None:
        """The line may be another one: how quick that is has to show. What did not go through is remembered."""
        self._known_at = -math.inf

    def broke(self, size: int) -> None:
        """The line broke with what goes in one request on any line: it goes in pieces next, where these are worth it.

        Or it would never arrive where each connection lasts for less than all of it takes.
        """
        if size >= _PIECES_BYTES:
            self.failed(size)

    @contextmanager
    def timed(self, size: int) -> Iterator[Callable[[], None]]:
        """Be around the sending of so many bytes, and learn from how long it takes if it succeeds.

        What is handed out is to be called as the first of them goes: what was waited for before that, an earlier upload
        or a first try that was refused, says nothing about the line. Waiting for a limit counts: while bytes wait for
        that, the line carries those before them.
        """
        began = trio.current_time()

        def begin() -> None:
            nonlocal began
            began = trio.current_time()

        yield begin
        self.learn(size, trio.current_time() - began)

    def learn(self, size: int, took_s: float) -> None:
        """So many bytes have just gone up in so long."""
        if size >= _TELLING_BYTES:
            self._known_at = trio.current_time()
            self._bytes_per_s = size / max(took_s, 0.001)
