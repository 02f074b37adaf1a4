"""How many requests were made, what came of them, and how long each took to its answer's head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from cloudfs.prometheus import Histogram

__all__ = ["Tally"]

_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Tally:
    """The counts of one account."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, Histogram] = {}

    def note(self, method: str, outcome: str, seconds: float) -> None:
        """Count a request: its outcome is the answer's status, or what kept an answer from coming."""
        self._outcomes[method, outcome] += 1
        if method not in self._seconds:
            self._seconds[method] = Histogram(_BOUNDS_S)
        self._seconds[method].note(seconds)

    def outcomes(self) -> Iterator[tuple[str, str, int]]:
        """Yield method, outcome and number."""
        for (method, outcome), number in sorted(self._outcomes.items()):
            yield method, outcome, number

    def seconds(self) -> Mapping[str, Histogram]:
        """Return how long they took, by method."""
        return self._seconds
