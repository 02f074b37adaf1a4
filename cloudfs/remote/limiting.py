"""How quick an account may send and fetch: token buckets that all its connections share, and what they carried.

    take -> a grant of some bytes -> moved on the wire -> settle: what was not moved is given back

What waits is served one after the other, the most urgent first; who waited for `_PATIENCE_S` goes before all others, so
that nobody is starved, and no server gives up a connection on which nothing moves. A grant is worth a twentieth of a
second: what a program waits for is held up by no more than that of what came before it.

Who asks stands in the context (`asking_as`), as it is no matter of the calls in between; what runs in a task of its own
inherits it. Time spent in here is nobody's fault: the silence that is borne on a connection is counted from the
grant on, and the time-outs of `patience` stand still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import NamedTuple, TypeVar

import trio

from cloudfs.remote.tally import Tally
from cloudfs.types import Octets

__all__ = ["Bucket", "Grant", "Meter", "Rank", "Traffic", "asking", "asking_as", "patience"]

Read = TypeVar("Read", bound=Octets)

_PATIENCE_S = 2.0
_GRANT_S = 0.05
_LEAST_GRANT_BYTES, _MOST_GRANT_BYTES = 4 * 1024, 256 * 1024
_BURST_S = 0.5
"""What was not used is kept for so long: timers are late, and what is late must not be lost."""
_DEBT_S = 2.0
"""What goes without waiting puts off what waits by no more than this: a listing may have megabytes."""
_LEAST_LOOK_S, _MOST_LOOK_S = 0.01, 0.25
"""Whoever waits looks again after this, as what is urgent may become so without a word."""
_ENOUGH = 1e-6
"""Of a byte: sums of floats."""


class Rank(IntEnum):
    """Who goes first."""

    READER = 0
    """A program waits for it; or nobody said anything."""
    AHEAD = 1
    """A program that reads will want it next."""
    GUESS = 2
    """A program may want it soon."""
    BACKGROUND = 3


class Grant(NamedTuple):
    """So many bytes may be moved."""

    most: int
    taken: int
    """What the bucket is short of by it; 0 where there was no limit."""


class _Ticket:
    """One that waits. Its rank may change meanwhile."""

    def __init__(self, rank: Callable[[], Rank], since: float) -> None:
        self.rank = rank
        self.since = since
        self.called = trio.Event()


class Bucket:
    """The limit of one direction, for what is of rank `above` or less urgent. Made and used on the loop's thread."""

    def __init__(self, above: Rank = Rank.READER) -> None:
        self._above = above
        self._rate: float | None = None
        self._level = 0.0
        self._level_at = 0.0
        self._queue: list[_Ticket] = []

    @property
    def rate(self) -> float | None:
        """Bytes per second; None: as quick as the line."""
        return self._rate

    @property
    def waiting(self) -> int:
        """So many are held up now."""
        return len(self._queue)

    def limit(self, rate: float | None) -> None:
        """Set another limit, at once also for what waits already. ValueError below 1 byte per second. NO CHECKPOINT."""
        if rate is not None and not rate >= 1:
            raise ValueError(f"no rate: {rate}")
        self._refill()
        if rate is not None:
            # What was saved or is owed is, at another speed, no more than the same time's worth.
            level = 0.0 if self._rate is None else self._level
            self._level = min(max(level, -_DEBT_S * rate), _burst_bytes(rate))
            self._level_at = trio.current_time()
        self._rate = rate
        for ticket in self._queue:
            ticket.called.set()

    async def take(self, want: int, rank: Callable[[], Rank]) -> Grant:
        """Wait until some of `want` (at least 1) bytes may be moved; what of it is not has to be given back: `settle`.

        Cancelled, nothing was taken. A checkpoint only where there is a limit.
        """
        if self._rate is None:
            return Grant(want, 0)
        ticket = _Ticket(rank, trio.current_time())
        self._queue.append(ticket)
        try:
            with _clocks_stopped():
                return await self._wait(ticket, want)
        finally:
            self._queue.remove(ticket)
            if self._queue:
                self._next().called.set()

    async def _wait(self, ticket: _Ticket, want: int) -> Grant:
        await trio.lowlevel.checkpoint()
        while (rate := self._rate) is not None and ticket.rank() >= self._above:
            # INVARIANT: a grant fits into the bucket, so there is enough for it some time.
            most = min(want, _grant_bytes(rate))
            self._refill()
            lacking = most - self._level
            if lacking <= _ENOUGH and self._next() is ticket:
                self._level -= most
                return Grant(most, most)
            with trio.move_on_after(min(max(lacking / rate, _LEAST_LOOK_S), _MOST_LOOK_S)):
                await ticket.called.wait()
            ticket.called = trio.Event()
        return Grant(want, 0)

    def _next(self) -> _Ticket:
        # In the order in which they came.
        if trio.current_time() - self._queue[0].since >= _PATIENCE_S:
            return self._queue[0]
        return min(self._queue, key=lambda it: it.rank())

    def settle(self, grant: Grant, moved: int) -> None:
        """Say how much of a grant was moved; once. NO CHECKPOINT."""
        if grant.taken and self._rate is not None:
            self._refill()
            self._level = min(self._level + grant.taken - moved, _burst_bytes(self._rate))

    def charge(self, moved: int) -> None:
        """Count what went without asking: what waits makes up for it, as far as `_DEBT_S`. NO CHECKPOINT."""
        if self._rate is not None:
            self._refill()
            self._level = min(self._level, max(self._level - moved, -_DEBT_S * self._rate))

    def _refill(self) -> None:
        if self._rate is not None:
            now = trio.current_time()
            filled = self._level + (now - self._level_at) * self._rate
            self._level, self._level_at = min(filled, _burst_bytes(self._rate)), now


def _grant_bytes(rate: float) -> int:
    return min(max(int(rate * _GRANT_S), _LEAST_GRANT_BYTES), _MOST_GRANT_BYTES)


def _burst_bytes(rate: float) -> float:
    return max(_BURST_S * rate, 2 * _grant_bytes(rate))


# --- who asks, and for how long

_asking: ContextVar[Callable[[], Rank]] = ContextVar("asking", default=lambda: Rank.READER)
_clocks: ContextVar[tuple[_Clock, ...]] = ContextVar("clocks", default=())


def asking() -> Callable[[], Rank]:
    """Return what tells how urgent the requests of this task are."""
    return _asking.get()


@contextmanager
def asking_as(rank: Callable[[], Rank]) -> Iterator[None]:
    """Have the requests within be as urgent as `rank` says at each moment."""
    token = _asking.set(rank)
    try:
        yield
    finally:
        _asking.reset(token)


class _Clock:
    """Stops a scope's deadline while anybody within waits here."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._stopped = 0
        self._left_s = 0.0

    def stop(self) -> None:
        if not self._stopped:
            self._left_s = self._scope.deadline - trio.current_time()
            self._scope.deadline = float("inf")
        self._stopped += 1

    def go(self) -> None:
        self._stopped -= 1
        if not self._stopped:
            self._scope.deadline = trio.current_time() + self._left_s


@contextmanager
def patience(within_s: float) -> Iterator[trio.CancelScope]:
    """Give up what is within after so many seconds, those spent waiting for a grant not counted."""
    with trio.move_on_after(within_s) as scope:
        token = _clocks.set((*_clocks.get(), _Clock(scope)))
        try:
            yield scope
        finally:
            _clocks.reset(token)


@contextmanager
def _clocks_stopped() -> Iterator[None]:
    stopped = _clocks.get()
    for clock in stopped:
        clock.stop()
    try:
        yield
    finally:
        for clock in stopped:
            clock.go()


# --- the account's connections


class Traffic:
    """The limits of one account, and what it has sent, fetched and asked so far."""

    def __init__(self) -> None:
        self.up = Bucket()
        self.down = Bucket()
        self.background = Bucket(above=Rank.GUESS)
        """Of what comes down the part that no program reads; a second limit beside that of all."""
        self.sent_bytes = 0
        self.received_bytes = 0
        self.tally = Tally()


class Meter:
    """What connections of one kind have to do with it.

    What carries contents waits in their direction: `receives`, `sends`. All else goes at once, as somebody waits for it
    and it is small; it is counted all the same.
    """

    def __init__(self, traffic: Traffic, *, receives: bool, sends: bool) -> None:
        self._traffic = traffic
        self._receives = receives
        self._sends = sends

    async def receive(self, want: int, read: Callable[[int], Awaitable[Read]]) -> Read:
        """Return what `read` brings, which is called with the most that it may bring now."""
        if not self._receives:
            data = await read(want)
            self.heard(len(data))
            return data
        rank = asking()
        moved, grants = 0, list[tuple[Bucket, Grant]]()
        try:
            for bucket in (self._traffic.background, self._traffic.down):
                grant = await bucket.take(want, rank)
                grants.append((bucket, grant))
                want = grant.most
            data = await read(want)
            moved = len(data)
        finally:
            for bucket, grant in grants:
                bucket.settle(grant, moved)
        self._traffic.received_bytes += moved
        return data

    def heard(self, count: int) -> None:
        """Count what came without having been waited for."""
        self._traffic.received_bytes += count
        self._traffic.down.charge(count)

    async def send(self, data: memoryview, write: Callable[[memoryview], Awaitable[None]]) -> None:
        """Have all of it be written, in pieces as they may go.

        A grant is not settled: it is written whole, and of a write that ended otherwise nobody knows how much has gone.
        """
        up = self._traffic.up
        while data:
            most = (await up.take(len(data), asking())).most if self._sends else len(data)
            await write(data[:most])
            self._traffic.sent_bytes += most
            if not self._sends:
                up.charge(most)
            data = data[most:]
