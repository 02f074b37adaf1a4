"""Who may send a request now: readers that wait go before read-ahead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

__all__ = ["Slots", "Wish"]


class Wish(Protocol):
    """What wants to send; it may become urgent while it waits."""

    @property
    def urgent(self) -> bool:
        """A reader waits for it."""
        ...


class _Ticket:
    """A wish to send. `background` counts it against the smaller limit, as decided when it was granted."""

    __slots__ = ("background", "granted", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.granted = trio.Event()
        self.background = False


class Slots:
    """How many requests run at once. Readers that wait come first, then first come, first served."""

    def __init__(self, total: int, background: int) -> None:
        self._total = total
        self._background_total = background
        self._running = 0
        self._background = 0
        self._queue: list[_Ticket] = []

    @property
    def reader_waits(self) -> bool:
        """A reader waits for a slot."""
        return any(ticket.wish.urgent for ticket in self._queue)

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._running

    @asynccontextmanager
    async def turn(self, wish: Wish) -> AsyncIterator[None]:
        """Hold a slot for a transfer; waiting for it is without bound but the caller's."""
        ticket = _Ticket(wish)
        self._queue.append(ticket)
        self.nudge()
        try:
            await ticket.granted.wait()
            yield
        finally:
            self._leave(ticket)

    def nudge(self) -> None:
        """Grant what can be granted; call it when a transfer has become urgent. NO CHECKPOINT."""
        for ticket in sorted(self._queue, key=lambda ticket: not ticket.wish.urgent):
            background = not ticket.wish.urgent
            if self._running >= self._total or (background and self._background >= self._background_total):
                return
            self._queue.remove(ticket)
            ticket.background = background
            self._running += 1
            self._background += background
            ticket.granted.set()

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.granted.is_set():
            self._running -= 1
            self._background -= ticket.background
        else:
            self._queue.remove(ticket)
        self.nudge()
