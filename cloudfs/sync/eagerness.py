"""How eagerly changes go up: what an account may say about it, and tests."""

from __future__ import annotations

import msgspec

__all__ = ["WorkerConfig"]


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How eagerly changes go up."""

    quiet_s: float = 2.0
    """A change goes up when its node was left alone for so long, or changed for too long (`Patience`)."""
    open_quiet_s: float = 30.0
    """The same for a file that is still open for writing."""
    parallel: int = 4
    """Steps under way at once."""
    together: int = 4
    """So many small files, at least, go in one request; fewer go one by one, each under a precondition of its own."""
    replan_s: float = 0.05
    """Shortest time between two plans."""
