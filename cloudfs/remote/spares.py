"""Connections that HTTP's parser is through with, and the server is not.

After a body that was read past the parser (`wire`) httpcore has no more use for the connection, and closes it. Kept
here instead, it is what the next new connection to the same place begins with: no round trips for TCP and TLS again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

__all__ = ["Place", "Spare", "Spares"]

Place = tuple[str, int]
"""Host and port."""


class Spare(NamedTuple):
    """A connection between two answers."""

    place: Place
    stream: trio.abc.Stream
    """With TLS, where there is some."""
    socket: trio.SocketStream
    is_alive: Callable[[], bool]
    """Tells whether it still is one, and nothing has come that nobody asked for."""


class Spares:
    """The spare connections of one transport, at most `most` of them, each for `idle_s`."""

    def __init__(self, most: int, idle_s: float) -> None:
        self._most = most
        self._idle_s = idle_s
        self._kept: deque[tuple[float, Spare]] = deque()
        self._closed = False

    async def keep(self, spare: Spare) -> None:
        """Take a connection over; the oldest one is closed where there are too many."""
        self._kept.append((trio.current_time(), spare))
        await self._clear(0 if self._closed else self._most)

    async def take(self, place: Place) -> Spare | None:
        """Hand over a connection to a place, the one used last; None where there is none that is alive."""
        await self._clear(self._most)
        for entry in reversed(self._kept):
            if entry[1].place == place:
                self._kept.remove(entry)
                if entry[1].is_alive():
                    return entry[1]
                await trio.aclose_forcefully(entry[1].stream)
                return await self.take(place)
        return None

    async def aclose(self) -> None:
        """Close them all, and those that are still to come."""
        self._closed = True
        await self._clear(0)

    async def _clear(self, most: int) -> None:
        while self._kept and (
            len(self._kept) > most or trio.current_time() - self._kept[0][0] > self._idle_s
        ):
            await trio.aclose_forcefully(self._kept.popleft()[1].stream)
