"""Whether a request for many small files waits until it is full: each costs a server the same, and so does its look."""

from __future__ import annotations

__all__ = ["Gathering"]

_MOST_S = 2.0
_LONGEST_S = 6.0
"""While more of them come: on a slow machine a folder is copied at ten files in a second, and planned for as slowly."""


class Gathering:
    """One at a time: begins with the first files that do not fill a request, and ends when one is sent.

    Files that are copied into a folder become due one after the other, and are found in parts of the backlog.
    """

    def __init__(self, most_s: float) -> None:
        """`most_s`: so long those that are due wait for the next one, and 2 s at most."""
        self._most_s = min(most_s, _MOST_S)
        self._since: float | None = None
        self._until = 0.0
        self._count = 0

    def goes_on(self, now: float, count: int, again_at: float, *, in_part: bool) -> bool:
        """Tell whether `count` files wait for more; `again_at`: when some may be found (trio time, as `now`).

        `in_part`: not all that is due was looked at yet, which takes a slow machine what it takes. Who is told to wait
        has to ask again at that time. NO CHECKPOINT.
        """
        if self._since is None:
            self._since, self._count = now, 0
        longest = self._since + _LONGEST_S
        if count > self._count:
            self._count = count
            self._until = min(now + self._most_s, longest)
        until = longest if in_part else self._until
        return now < until and again_at <= until

    def waits(self, now: float) -> bool:
        """Tell whether some are waiting for others: a place is to be kept for them. NO CHECKPOINT."""
        return self._since is not None and now < self._until

    def over(self) -> None:
        """A request was sent."""
        self._since = None
