"""Bytes on their way from the server: a range of one version, who waits for it, how far it is.

A transfer runs in the nursery of the account, never in the task of a reader: a reader that is cancelled takes nothing
from the others. It ends by itself when nobody has shown interest for `idle_s`. `line` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import trio

from cloudfs.concurrency.singleflight import fresh_copy
from cloudfs.content.source import FetchConfig, Source
from cloudfs.types import Octets

__all__ = ["Sink", "Transfer"]

_MIB = 1024 * 1024
_TOUCH_S = 0.1
"""How inexact the end of an idle transfer may be."""


class Sink(Protocol):
    """Where the bytes of one transfer go."""

    async def take(self, transfer: Transfer, chunk: Octets) -> bool:
        """Take the chunk that begins at `transfer.position` and advance it; False ends the transfer here."""
        ...

    def end(self) -> None:
        """Let go of everything: no more chunks will come, whatever the reason. NO CHECKPOINT."""
        ...


class _Waiter:
    """A reader that needs [start, stop). INVARIANT: `done` is set exactly once, whatever way it ended."""

    __slots__ = ("data", "done", "error", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.done = trio.Event()
        self.data: Octets | None = None
        self.error: Exception | None = None


class Transfer:
    """The bytes [start, stop) of one version on their way; `position` is the first that is still missing."""

    def __init__(
        self,
        source: Source,
        start: int,
        stop: int,
        config: FetchConfig,
        nudge: Callable[[], None],
        *,
        whole: bool = False,
        lowest: bool = False,
        scout_s: Callable[[Transfer], float | None] = lambda _: None,
    ) -> None:
        """`whole`: nothing is handed out before all of it is here. `lowest`: it stops while readers wait for others.

        `scout_s`: how long it goes on when it was waited for in vain; None: as long as any other.
        """
        self._scout_s = scout_s
        self.source = source
        self.start = start
        self.stop = stop
        self.position = start
        self.whole = whole
        self.lowest = lowest
        self.error: Exception | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self._config = config
        self._nudge = nudge
        self._waiters: list[_Waiter] = []
        self._holders = 0
        self._given_up = False
        """Somebody has waited for it in vain."""
        self.reader_offset: Callable[[], int] | None = None
        """Where the reader is that this transfer was started for."""
        self._caught_up: tuple[int, trio.Event] | None = None
        self.begun_s = trio.current_time()
        self._asked_s = math.inf
        self._answered_s: float | None = None
        self._latency_s = 0.0
        self.touch()

    @property
    def urgent(self) -> bool:
        """A reader waits for these bytes now."""
        return bool(self._waiters)

    @property
    def ended(self) -> bool:
        """No more bytes will come."""
        return self.done.is_set()

    @property
    def ends_soon(self) -> bool:
        """Another request, started now, would get its first byte no sooner than this one its last."""
        return self.stop - self.position <= _MIB + int(self.bytes_per_s() * self._latency_s * 1.5)

    def delivers(self, offset: int) -> bool:
        """Tell whether the byte at `offset` is still to come."""
        return self.position <= offset < self.stop

    def reaches_soon(self, offset: int) -> bool:
        """Tell whether waiting for `offset` is quicker than another request: about 30 ms of data."""
        if self.whole:
            return True  # another request would have to bring all of it, too
        near = _MIB if self._answered_s is None else max(_MIB // 4, int(self.bytes_per_s() * 0.03))
        return offset - self.position <= near

    def bytes_per_s(self) -> float:
        """Return how quick it has been since its first byte."""
        if self._answered_s is None:
            return 0.0
        return (self.position - self.start) / max(trio.current_time() - self._answered_s, 0.001)

    def is_far_ahead(self, pace_bytes: int) -> bool:
        """Tell whether its reader is more than `pace_bytes` behind, and waits for nothing."""
        return (
            self.reader_offset is not None
            and not self.urgent
            and self.position - self.reader_offset() > pace_bytes
        )

    async def wait_for_reader(self, pace_bytes: int, most_s: float) -> None:
        """Return when it is not far ahead any more, after `most_s` at the latest."""
        with trio.move_on_after(most_s):
            self._caught_up = pace_bytes, trio.Event()
            await self._caught_up[1].wait()
        self._caught_up = None

    def touch(self) -> None:
        """Show interest: put off the end of a transfer that nobody waits for; its reader may have moved."""
        if self._caught_up is not None and not self.is_far_ahead(self._caught_up[0]):
            self._caught_up[1].set()
        if self._waiters or self._holders:
            self.scope.deadline = math.inf
            return
        deadline = trio.current_time() + self._grace_s()
        # Every read of 128 KiB comes here, and moving a deadline costs more than looking at it.
        if not 0 <= deadline - self.scope.deadline < _TOUCH_S:
            self.scope.deadline = deadline

    def abandon(self) -> None:
        """End at once unless somebody waits or it is nearly done."""
        if (
            not self._waiters
            and not self._holders
            and self.stop - self.position > self._config.nearly_done_bytes
        ):
            self.scope.cancel()

    def _grace_s(self) -> float:
        if self._answered_s is None and self._given_up and (scout_s := self._scout_s(self)) is not None:
            return scout_s
        nearly_done = self.stop - self.position <= self._config.nearly_done_bytes
        return self._config.nearly_done_s if nearly_done else self._config.idle_s

    async def wait_bytes(self, start: int, stop: int) -> Octets | None:
        """Return the bytes [start, stop) of one block as soon as they are here, or as many as this transfer brings.

        None when it ended without any and without an error: look again. Raises what the transfer failed with, as
        a copy.
        """
        waiter = _Waiter(start, stop)
        self._waiters.append(waiter)
        self.touch()
        self._nudge()
        try:
            await waiter.done.wait()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._given_up = True
            self.touch()
        if waiter.error is not None:
            raise fresh_copy(waiter.error) from waiter.error
        return waiter.data

    async def wait_done(self) -> None:
        """Wait until the transfer has ended, keeping it alive meanwhile. Raises what it failed with."""
        with self.held():
            await self.done.wait()
        if self.error is not None:
            raise fresh_copy(self.error) from self.error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the transfer from ending for want of readers."""
        self._holders += 1
        self.touch()
        try:
            yield
        finally:
            self._holders -= 1
            self.touch()

    def advance(self, position: int, read: Callable[[int, int], Octets | None]) -> None:
        """Note that everything before `position` has arrived and answer those who need no more.

        NO CHECKPOINT: `read` takes it for them here, so no page can be dropped before its reader runs.
        """
        self.position = position
        if not self._waiters:
            return
        ready = [waiter for waiter in self._waiters if min(waiter.stop, self.stop) <= position]
        for waiter in ready:
            self._waiters.remove(waiter)
            waiter.data = read(waiter.start, waiter.stop)
            waiter.done.set()
        if ready:
            self.touch()

    def asked(self) -> None:
        """Note when a request was sent."""
        self._asked_s = trio.current_time()

    def answered(self) -> None:
        """Note when the first bytes of the first request came, to know how quick the line is."""
        if self._answered_s is None:
            self._answered_s = trio.current_time()
            self._latency_s = self._answered_s - self._asked_s

    def finish(self) -> None:
        """Wake everybody, with the error if there is one. NO CHECKPOINT."""
        for waiter in self._waiters:
            waiter.error = self.error
            waiter.done.set()
        self._waiters.clear()
        self.done.set()
