"""Notices that time went on without us, or was set to another.

trio's clock is CLOCK_MONOTONIC, which stands still while the machine sleeps: what was to be tried in five minutes
is tried five minutes after it woke up, and what was asked for hours ago counts as fresh. CLOCK_BOOTTIME goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import trio

__all__ = ["Clocks", "Continuity", "Jump", "Reading", "SystemClocks", "jump_between", "watch_clocks"]

_SLEPT_S = 1.0
_STEPPED_S = 2.0
"""Less than this is a clock being corrected, or the time between two system calls."""
_LOOK_EVERY_S = 5.0


class Reading(msgspec.Struct, frozen=True):
    """What the clocks say, in seconds."""

    awake_s: float
    """CLOCK_MONOTONIC: stands still while the machine sleeps."""
    passed_s: float
    """CLOCK_BOOTTIME."""
    wall_s: float
    """CLOCK_REALTIME: what people and servers go by; may be set."""

    @property
    def asleep_s(self) -> float:
        """For how long the machine was suspended in all."""
        return self.passed_s - self.awake_s


class Clocks(Protocol):
    """Where the time comes from."""

    def read(self) -> Reading:
        """Return all of it, as of one moment."""
        ...


class SystemClocks:
    """The machine's."""

    def read(self) -> Reading:
        """Ask the kernel."""
        return Reading(
            time.clock_gettime(time.CLOCK_MONOTONIC),
            time.clock_gettime(time.CLOCK_BOOTTIME),
            time.clock_gettime(time.CLOCK_REALTIME),
        )


class Jump(msgspec.Struct, frozen=True):
    """What happened between two readings."""

    slept_s: float
    """For so long the machine was suspended; 0 if it was not."""
    stepped_s: float
    """The wall clock was set forward by so much, or back if below 0; 0 if it was not."""


def jump_between(before: Reading, now: Reading) -> Jump | None:
    """Return what is not explained by time passing; None where nothing is worth mentioning. Pure."""
    passed_s = now.passed_s - before.passed_s
    slept_s = passed_s - (now.awake_s - before.awake_s)
    stepped_s = (now.wall_s - before.wall_s) - passed_s
    jump = Jump(
        slept_s=slept_s if slept_s > _SLEPT_S else 0.0,
        stepped_s=stepped_s if abs(stepped_s) > _STEPPED_S else 0.0,
    )
    return jump if jump.slept_s or jump.stepped_s else None


class Continuity:
    """Tells at once since when time has gone on as trio's clock says, whoever has noticed a jump already or not."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._before = clocks.read()
        self._since = -math.inf

    def since(self) -> float:
        """Return when (trio) a jump was first seen to be over, the latest one; -inf: there was none. NO CHECKPOINT.

        What was known before says nothing about now. INVARIANT: a sleep that is over is seen, however short ago.
        """
        now = self._clocks.read()
        jump = jump_between(self._before, now)
        if jump is not None:
            # What was known at this very moment is older.
            self._since = math.nextafter(trio.current_time(), math.inf)
        # Nobody sleeps less than nothing: then it was the earlier reading that was held up between two calls.
        if jump is not None or now.asleep_s < self._before.asleep_s:
            self._before = now
        return self._since


async def watch_clocks(clocks: Clocks, jumped: Callable[[Jump], None]) -> None:
    """Tell of every jump within seconds; for ever. A system call every five seconds."""
    before = clocks.read()
    while True:
        await trio.sleep(_LOOK_EVERY_S)
        now = clocks.read()
        jump = jump_between(before, now)
        before = now
        if jump is not None:
            jumped(jump)
