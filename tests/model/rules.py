"""Under which circumstances a history is played."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.sync.appending import FROM_BYTES

__all__ = ["Rules"]


@dataclass(frozen=True)
class Rules:
    """Under which circumstances a history is played."""

    deadline_s: float | None = None
    """Requests end then, and have to."""
    offline_first: bool = False
    """Nothing of the server was ever seen, until a PlugIn."""
    slow_disk: bool = False
    together: int = 4
    """So many small new files go in one request."""
    append_bytes: int = FROM_BYTES
    """Of files from this size on, tails go up alone."""
    held_from: int | None = None
    """More deletions at once than that wait for an answer; None: as many as by default."""
    noticed_within_s: float | None = None
    """What other clients changed has to be shown then, though nobody has anything listed anew; None: no matter when."""
    strict: bool = True
    """Conflicts need a reason."""
