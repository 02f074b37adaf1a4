"""A large new file in one request, where the line is known to be quick; a smaller one unless it is known not to be.

In pieces a file costs the server its bytes twice, as it copies them together (protocol.md §7: 50 MiB take twice as
long). What pieces are for, that little is lost with a connection, matters little where all of it takes seconds. How
quick a line is shows by what went up lately. Nothing is begun whole to find that out: a request that is cut may leave
a part of a new file, where a Nextcloud's storage is an object store (29.0.1, `needsPartFile`, by reading).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["MOST_BYTES", "OneGo"]

MOST_BYTES = 256 * 1024 * 1024
"""Larger files always go in pieces."""

_PIECES_BYTES = 16 * 1024 * 1024
"""What is smaller goes in one request on any line."""
_MOST_S = 10.0
_TELLING_BYTES = 4 * 1024 * 1024
"""Of less the request costs more than the bytes."""
_KNOWN_S = 600.0


class OneGo:
    """Decides for one account. Made and used on the loop's thread."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: larger files always go in pieces."""
        self._most_bytes = most_bytes
        self._bytes_per_s = 0.0
        self._known_at = -math.inf

    def is_quick(self, size: int, sent_in_time: int) -> bool:
        """Tell whether all of a file goes up within 10 s; `sent_in_time`: what a limit in force lets go in these."""
        known = trio.current_time() - self._known_at < _KNOWN_S
        return known and size <= min(self._most_bytes, sent_in_time, self._bytes_per_s * _MOST_S)

    @property
    def most_s(self) -> float:
        """Longest time that all of it may take."""
        return _MOST_S

    def is_slow(self, size: int, sent_in_time: int) -> bool:
        """Tell whether all of a file is known not to go up within 10 s: then it is worth pieces, where it is large."""
        known = trio.current_time() - self._known_at < _KNOWN_S
        return size >= _PIECES_BYTES and known and size > min(sent_in_time, self._bytes_per_s * _MOST_S)

    def forget(self) -> None:
        """The line broke, or something on it takes no large bodies: go in pieces until more is known."""
        self._known_at = -math.inf

    @contextmanager
    def timed(self, size: int) -> Iterator[None]:
        """Be around the sending of so many bytes, and learn from how long it takes if it succeeds."""
        began = trio.current_time()
        yield
        self.learn(size, trio.current_time() - began)

    def learn(self, size: int, took_s: float) -> None:
        """So many bytes have just gone up in so long."""
        if size >= _TELLING_BYTES:
            self._known_at = trio.current_time()
            self._bytes_per_s = size / max(took_s, 0.001)
