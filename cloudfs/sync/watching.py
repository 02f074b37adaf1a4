"""Watches the account for what other clients change: by being told, by asking in time, or not at all.

While it works, folders need not be asked for one by one, and the kernel may keep what it was told for long: every
change found is announced to it by name. When it does not, each folder is asked for when it is used, as on servers
whose folders have no ETag that changes with what is below.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from enum import Enum

import msgspec
import trio

from cloudfs.errors import CloudfsError, RemoteError

__all__ = ["Channel", "Pace", "Watcher"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
"""So long a program that asks for a name that is not there waits for a look."""
_GRACE_S = 60.0
"""A look may take so long beyond its time before nobody relies on the one before."""


class Channel(Enum):
    """How changes of others are found out; what `cloudfs status` shows."""

    PUSH = "push"
    POLLING = "polling"
    ON_USE = "on use"


class Pace(msgspec.Struct, frozen=True):
    """How often to look, in seconds."""

    poll_s: float = 30.0
    """While the account is in use; 0: never, each folder is asked for when it is used."""
    fresh_s: float = 5.0
    """A look as old as this is repeated before a name is said not to exist."""
    used_s: float = 15.0
    """One as old as this when a program asks for anything else: nobody waits for it, and the next is never far."""
    beside_push_s: float = 300.0
    """The server's messages leave out some kinds of changes (protocol.md §12), and may be lost."""
    longest_s: float = 300.0

    def pause_s(self, idle_s: float, *, pushed: bool) -> float:
        """Return the time until the next look; `idle_s`: for so long nothing was used or changed. Pure.

        Beyond ten minutes of idleness at the default, it grows to a twentieth of it: one look in five minutes at last.
        """
        if pushed:
            return max(self.poll_s, self.beside_push_s)
        return max(self.poll_s, min(idle_s / 20, self.longest_s))


class Watcher:
    """One account's; a `metadata.freshness.Watch`. `look` takes in what is new, and tells whether anything was.

    `possible`: whether the server's folders have ETags that tell; `not_before`: trio time until which the server is to
    be left alone; `told` hears whether everything is found out now; `behind`: whether something that is known to be new
    could not be taken in, so that the next look is not as far away as beside messages that tell of all.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[bool]],
        pace: Pace,
        *,
        possible: Callable[[], bool],
        not_before: Callable[[], float] = lambda: 0.0,
        told: Callable[[bool], None] = lambda _: None,
        behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._take_in = look
        self._behind = behind
        self._pace = pace
        self._possible = possible
        self._not_before = not_before
        self._told = told
        self._bell = trio.Event()
        self._resting = trio.CancelScope()
        """In which the next look is waited for."""
        self._looked = trio.Event()
        """Set when the look under way, or the next one, is over."""
        self._looking = self._slow = False
        self._began_at = -math.inf
        self._active_at = trio.current_time()
        self._trusted = self._pushed = False
        self._turn = trio.Event()
        """Set, and replaced, when `covers` becomes another."""
        self._doubts = 0
        """How often everything that was known became doubtful."""
        self.since = time.time()
        """Unix s: since when the channel is what it is."""

    # What others ask

    @property
    def channel(self) -> Channel:
        """How changes are found out now."""
        if not self.covers():
            return Channel.ON_USE
        return Channel.PUSH if self._pushed else Channel.POLLING

    @property
    def is_told(self) -> bool:
        """The server tells of changes by itself, so that nobody looks for them for minutes."""
        return self._pushed

    def covers(self) -> bool:
        """Tell whether the last look succeeded, and the next one is not long overdue."""
        age_s = trio.current_time() - self._began_at
        return self._trusted and age_s < self._pause_s() + _GRACE_S

    def used(self) -> None:
        """A program asked for something: look soon, unless that was done just now or the server tells by itself."""
        if not self._pushed and self._is_due(self._pace.used_s):
            self._bell.set()
        self.at_work()

    def at_work(self) -> None:
        """A program asked for something: it is no longer at rest, and the next look as near as while it is in use."""
        self._active_at = trio.current_time()
        if not self._pushed:
            self._resting.deadline = min(self._resting.deadline, self._began_at + self._pause_s())

    async def look(self) -> None:
        """Have changes up to a moment ago taken in, and wait for that for a moment at most."""
        due = self._is_due(self._pace.fresh_s)
        if self._pushed or not (due or (self._looking and not self._slow)):
            return
        self._active_at = trio.current_time()
        if due:
            self._bell.set()
        with trio.move_on_after(_PATIENCE_S) as patience:
            await self._looked.wait()
        self._slow = patience.cancelled_caught

    def _is_due(self, age_s: float) -> bool:
        return not self._looking and trio.current_time() - self._began_at >= age_s

    async def until(self, *, covered: bool) -> None:
        """Wait until changes are found out for the account as a whole, or are no longer."""
        while self.covers() is not covered:
            with trio.move_on_after(_GRACE_S):
                await self._turn.wait()

    # What happens to us

    def wake(self) -> None:
        """The server answers again, or there is another reason to look at once."""
        self._bell.set()

    def distrust(self) -> None:
        """The machine slept, or changed its network: what is known may be old, until the next look."""
        self._doubts += 1
        self._trust(trusted=False)

    def pushed(self, *, connected: bool) -> None:
        """From now on the server tells by itself, or no longer does. What it told to nobody has to be looked for."""
        if connected is not self._pushed:
            before = self.channel
            self._pushed = connected
            if self.channel is not before:
                self.since = time.time()
            self._bell.set()

    def active(self) -> None:
        """Something has changed: others are at work, and more may follow."""
        self._active_at = trio.current_time()

    # The work

    async def run(self) -> None:
        """For ever: wait until it is time or somebody wakes us, and look.

        Not at once: at the start another request finds out first whether the login is good.
        """
        while self._pace.poll_s > 0:
            await self._wait(self._pause_s() * random.uniform(0.9, 1.0))  # noqa: S311  # jitter
            while (left_s := self._not_before() - trio.current_time()) > 0:
                self._trust(trusted=False)  # nothing is announced meanwhile, and that may take long
                await self._wait(left_s)
            await self._look_once()

    async def _wait(self, most_s: float) -> None:
        with trio.move_on_after(most_s) as self._resting:
            await self._bell.wait()
        self._bell = trio.Event()

    def _pause_s(self) -> float:
        told = self._pushed and not self._behind()
        return self._pace.pause_s(trio.current_time() - self._active_at, pushed=told)

    async def _look_once(self) -> None:
        began, seen = self._doubts, False
        self._looking, self._slow, self._began_at = True, False, trio.current_time()
        try:
            if self._possible():
                if await self._take_in():
                    self.active()
                seen = True
        except RemoteError as error:
            _log.debug("what others changed could not be found out: %s", error)
        except CloudfsError as error:  # a full disk: the next look finds the same
            _log.warning("what others changed could not be noted: %s", error)
        finally:
            self._trust(trusted=seen and began == self._doubts)
            self._looking = False
            self._looked.set()
            self._looked = trio.Event()

    def _trust(self, *, trusted: bool) -> None:
        if trusted is not self._trusted:
            self._trusted = trusted
            self.since = time.time()
            _log.info("changes of others are found out by %s", self.channel.value)
            self._turn.set()
            self._turn = trio.Event()
            self._told(trusted)
