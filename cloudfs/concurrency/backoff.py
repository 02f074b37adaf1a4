"""How long to wait before another try. Pure: time and chance are handed in."""

from __future__ import annotations

import random

import msgspec

__all__ = ["Backoff"]

_MAX_DOUBLINGS = 64
"""More would overflow a float long after every cap is reached."""


class Backoff(msgspec.Struct, frozen=True):
    """Exponential delays with full jitter.

    Full jitter (uniform between nothing and the ceiling) spreads many clients that lost the same server at
    the same moment better than a jitter around the ceiling.
    SOURCE: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """

    first_s: float = 1.0
    """Ceiling of the first delay."""
    cap_s: float = 300.0
    """No ceiling is higher, however many tries failed."""
    factor: float = 2.0
    retry_after_cap_s: float = 3600.0
    """What a server may ask for at most: one bad header must not switch an account off for a year."""

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest delay after `attempt` failures in a row before this one (0 is the first)."""
        return float(min(self.cap_s, self.first_s * self.factor ** min(attempt, _MAX_DOUBLINGS)))

    def delay_s(self, attempt: int, chance: random.Random, retry_after_s: float | None = None) -> float:
        """Draw the delay before the next try.

        Never earlier than the server asked for (up to `retry_after_cap_s`); the jitter then comes on top,
        since everybody it turned away was given the same number.
        """
        jitter_s = chance.uniform(0.0, self.ceiling_s(attempt))
        if retry_after_s is None or retry_after_s <= 0:
            return jitter_s
        return min(retry_after_s, self.retry_after_cap_s) + min(jitter_s, self.first_s)
