"""How long what is changed again and again is left alone: it would never be quiet, and must go up all the same.

What goes up then is the file as it was at one moment between two writes, as at any other time.
"""

from __future__ import annotations

from cloudfs.sync.steps import Step, Upload
from cloudfs.types import Ino

__all__ = ["Patience"]

_LONGEST_S = 600.0
_BYTES_PER_S = 1_000_000
"""A large file waits longer: on the average no more than that goes up of one that is written for ever."""

_Key = tuple[Ino | None, str]


class Patience:
    """Knows since when there has been work about each name without an end (trio s).

    By names, not inodes: what a program saves by rename every second is another file each time.
    """

    def __init__(self) -> None:
        self._since: dict[_Key, float] = {}
        """As of the last pass over the backlog."""
        self._met: dict[_Key, float] = {}
        """As of the present one: what it does not meet is settled. There may be any number."""

    def meet(self, step: Step, now: float) -> None:
        """A plan has this step."""
        key = _key(step)
        if key not in self._met:
            self._met[key] = self._since.get(key, now)

    def end_of_pass(self) -> None:
        """Every plan since the last call was one for a part of the backlog: what was in none of them is settled."""
        self._since, self._met = self._met, {}

    def forget(self, step: Step) -> None:
        """It was done: what is changed from now on begins anew."""
        for known in (self._since, self._met):
            known.pop(_key(step), None)

    def ends_at(self, step: Step) -> float:
        """Return the trio time from which on nobody waits for quiet any more; infinity where that is not known yet."""
        key = _key(step)
        since = self._met.get(key, self._since.get(key))
        if since is None:
            return float("inf")
        size = step.node.size if isinstance(step, Upload) else 0
        return since + _LONGEST_S + size / _BYTES_PER_S


def _key(step: Step) -> _Key:
    node = step.node
    return (node.parent, node.name) if node.linked else (node.ino, "")
