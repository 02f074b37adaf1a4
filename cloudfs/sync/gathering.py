"""Whether a request for many small files waits until it is full: each costs a server the same, and so does its look."""

from __future__ import annotations

__all__ = ["Gathering"]

_MOST_S = 2.0


class Gathering:
    """One at a time: begins with the first files that do not fill a request, and ends when one is sent.

    Files that are copied into a folder become due one after the other, and are found in parts of the backlog.
    """

    def __init__(self, most_s: float) -> None:
        """`most_s`: so long those that are due wait for others, and 2 s at most."""
        self._most_s = min(most_s, _MOST_S)
        self._since: float | None = None

    def goes_on(self, now: float, again_at: float) -> bool:
        """Tell whether to wait for more; `again_at`: when some may be found (trio time, as `now`).

        Who is told to wait has to ask again at that time. NO CHECKPOINT.
        """
        self._since = now if self._since is None else self._since
        until = self._since + self._most_s
        return now < until and again_at <= until

    def waits(self, now: float) -> bool:
        """Tell whether some are waiting for others: a place is to be kept for them. NO CHECKPOINT."""
        return self._since is not None and now < self._since + self._most_s

    def over(self) -> None:
        """A request was sent."""
        self._since = None
