"""Warnings that would repeat a thousand times a second, said once a minute."""

from __future__ import annotations

import logging
import math

import trio

__all__ = ["SeldomLog"]

_EVERY_S = 60.0


class SeldomLog:
    """Pass on at most one warning a minute, with the number of those held back since. Only inside trio.run."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last_s = -math.inf
        self._held_back = 0

    def warning(self, message: str, *args: object) -> None:
        """Log the warning, or count it."""
        now_s = trio.current_time()
        if now_s - self._last_s < _EVERY_S:
            self._held_back += 1
            return
        self._log.warning(message + " (%d more since the last report)", *args, self._held_back)
        self._last_s, self._held_back = now_s, 0
