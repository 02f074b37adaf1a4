"""Looks on while trio runs a history: what ran when (for the proof that a seed replays), and when to die."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import trio

__all__ = ["Death", "Digest"]


class Digest(trio.abc.Instrument):
    """Sums up which tasks ran in which order, at which times."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self._sum.update(f"{trio.current_time():.9f} {task.name}\n".encode())

    def __str__(self) -> str:
        return f"{self.steps} steps {self._sum.hexdigest()[:16]}"


class Death(trio.abc.Instrument):
    """Calls something between two steps of the scheduler, so many steps after it was armed.

    It looks on only as long as it is armed: each step of a run costs a little more for it.
    """

    def __init__(self) -> None:
        self._left = 0
        self._then: Callable[[], None] | None = None

    def arm(self, steps: int, then: Callable[[], None]) -> None:
        """Have it happen after so many steps from now on; an earlier arming is forgotten."""
        self.disarm()
        self._left, self._then = steps, then
        trio.lowlevel.add_instrument(self)

    @property
    def is_near(self) -> bool:
        """It was armed and has not happened yet."""
        return self._then is not None

    def disarm(self) -> None:
        """Nothing happens any more."""
        if self._then is not None:
            self._then = None
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left <= 0 and (then := self._then) is not None:
            self.disarm()
            then()
