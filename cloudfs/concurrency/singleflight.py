"""One running call per key, many waiters: two readers of one missing block cause one request."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec
import trio

from cloudfs.errors import CloudfsError

__all__ = ["FlightAborted", "FlightStatistics", "SingleFlight", "fresh_copy"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FlightAborted(CloudfsError):
    """The nursery that carried the call was cancelled: the account is being shut down."""

    temporary = True


class FlightStatistics(msgspec.Struct, frozen=True):
    """A moment of one SingleFlight."""

    running: int
    """Calls under way."""
    waiting: int
    """Tasks that wait for one of them."""


class _Flight(Generic[V]):
    """One running call. INVARIANT: `done` is set exactly once, whatever way the call ended."""

    __slots__ = ("began", "done", "error", "scope", "value", "waiters")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.began = trio.current_time()
        self.waiters = 0
        self.value: list[V] = []
        self.error: Exception | None = None


class SingleFlight(Generic[K, V]):
    """Run at most one call per key at a time and hand its result to everybody who asked meanwhile.

    The call runs in `nursery`, not in the task that asked first, so a caller that is cancelled (a program
    killed while it reads) takes nothing away from the others. When the last waiter has gone, the call is
    cancelled. Results are not kept: the next `run` after the end calls again.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flights: dict[K, _Flight[V]] = {}

    async def run(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        """Return what the running call of `key` returns, starting `call` if there is none.

        Raises what the call raises, as a copy of this waiter's own with the original as its cause, and
        FlightAborted when the nursery was cancelled. Always a checkpoint.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._launch(key, call)
        flight.waiters += 1
        try:
            await flight.done.wait()
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.done.is_set():
                flight.scope.cancel()
                # Whoever asks from now on must not join a call that is about to die.
                self._forget(key, flight)
        return _landed(flight)

    def running(self, key: K) -> bool:
        """Tell whether a call of `key` is under way that `run` would join."""
        return key in self._flights

    def since(self, key: K) -> float:
        """Return when (trio) the call began that `run` would join; now, where it would begin one."""
        flight = self._flights.get(key)
        return trio.current_time() if flight is None else flight.began

    def statistics(self) -> FlightStatistics:
        """Count running calls and their waiters."""
        waiting = sum(flight.waiters for flight in self._flights.values())
        return FlightStatistics(running=len(self._flights), waiting=waiting)

    def _launch(self, key: K, call: Callable[[], Awaitable[V]]) -> _Flight[V]:
        flight: _Flight[V] = _Flight()
        # Before the table knows it: a closed nursery raises here and must leave no flight behind.
        self._nursery.start_soon(self._fly, key, flight, call, name=f"single flight {key!r}")
        self._flights[key] = flight
        return flight

    async def _fly(self, key: K, flight: _Flight[V], call: Callable[[], Awaitable[V]]) -> None:
        try:
            with flight.scope:
                flight.value.append(await call())
        except Exception as error:  # noqa: BLE001  # every waiter gets it; there is nobody above to tell
            flight.error = error
        finally:
            self._forget(key, flight)
            flight.done.set()

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _landed(flight: _Flight[V]) -> V:
    if flight.error is not None:
        raise fresh_copy(flight.error) from flight.error
    if not flight.value:
        raise FlightAborted("the shared request was cancelled by shutting down")
    return flight.value[0]


def fresh_copy(error: Exception) -> Exception:
    """Return an exception like `error` that may be raised on its own.

    Raising one object in several tasks would grow one traceback and cross their contexts. Copies of our
    own errors are made without calling `__init__` again, which may take other arguments than `args` has
    (PosixError); others know how to be copied, or lose at most what they keep outside `args` and `__dict__`.
    """
    if not isinstance(error, CloudfsError):
        with suppress(Exception):
            return copy.copy(error)
    twin = type(error).__new__(type(error), *error.args)
    twin.args = error.args
    twin.__dict__.update(error.__dict__)
    return twin
