"""A large new file in one request, where the line turns out to be quick enough.

In pieces a file costs the server its bytes twice, as it copies them together (protocol.md §7: 50 MiB take twice as
long). What pieces are for, that little is lost with a connection, matters little where all of it takes seconds. How
quick a line is shows once bytes are on it: so a file is begun whole, and where it would take too long that is given up
after two seconds, and it goes in pieces. A Nextcloud makes nothing of a part of a new file (§6).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import trio

from cloudfs.remote.protocol import Body

__all__ = ["OneGo", "TooSlow"]

_MOST_S = 10.0
_JUDGED_S = 2.0
_RESTS_S = 600.0
"""For so long nothing is begun whole after that was in vain."""


class TooSlow(Exception):  # it says what the line is
    """The body was broken off: all of it would take longer than is to be lost with a connection."""


class OneGo:
    """Decides for one account. Made and used on the loop's thread."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: larger files always go in pieces."""
        self._most_bytes = most_bytes
        self._not_before = -math.inf

    def is_worth_a_try(self, size: int, sent_in_time: int) -> bool:
        """Tell whether a file may be begun whole; `sent_in_time`: as much of it as a limit in force lets go in 10 s."""
        return size <= min(self._most_bytes, sent_in_time) and trio.current_time() >= self._not_before

    @property
    def most_s(self) -> float:
        """Longest time that all of it may take."""
        return _MOST_S

    def was_in_vain(self) -> None:
        """The line was too slow, or broke."""
        self._not_before = trio.current_time() + _RESTS_S

    def paced(self, body: Body, size: int) -> Body:
        """Return the body as one that raises TooSlow after two seconds, if all of it takes too long at that pace."""

        def chunks(start: int = 0) -> AsyncIterator[bytes]:
            return _Paced(body(start), size - start)

        return chunks


class _Paced:
    """The chunks of one body. No generator: see `bodies.Upload`."""

    def __init__(self, chunks: AsyncIterator[bytes], size: int) -> None:
        self._chunks = chunks
        self._size = size
        self._taken = 0
        self._began_s = math.nan
        self._judged = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        now = trio.current_time()
        if not self._taken:
            self._began_s = now
        elif not self._judged and now - self._began_s >= _JUDGED_S:
            self._judged = True
            if (now - self._began_s) * self._size > _MOST_S * self._taken:
                raise TooSlow
        chunk = await anext(self._chunks)
        self._taken += len(chunk)
        return chunk

    async def aclose(self) -> None:
        if close := getattr(self._chunks, "aclose", None):
            await close()
