"""When something happened last, for many things at once, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

import trio

__all__ = ["Times"]

K = TypeVar("K", bound=Hashable)


class Times(Generic[K]):
    """Notes of trio times (s). Of more than `most`, those noted the longest ago go. NO CHECKPOINT anywhere here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._noted: dict[K, float] = {}

    def note(self, key: K, at: float | None = None) -> None:
        """Note a time, by default the present one."""
        self._noted.pop(key, None)
        self._noted[key] = trio.current_time() if at is None else at
        if len(self._noted) > self._most:
            del self._noted[next(iter(self._noted))]

    def of(self, key: K) -> float:
        """Return the time noted last; minus infinity: none is known."""
        return self._noted.get(key, -math.inf)

    def age_s(self, key: K) -> float:
        """Return how long ago that was; infinity: never, for all that is known."""
        return trio.current_time() - self.of(key)
