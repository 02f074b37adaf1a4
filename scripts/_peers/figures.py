"""What was measured, what it has to reach, and the middle of several runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

__all__ = ["LIMIT", "US", "Cell", "Figure", "Figures", "Goal"]

US = "cloudfs"
LIMIT = "curl"
"""No peer: one request without any file system."""

_FAR_MS = 40


class Figure(msgspec.Struct, frozen=True):
    """One client did one thing once."""

    rtt_ms: int
    work: str
    client: str
    seconds: float
    requests: int = 0
    down_bytes: int = 0
    up_bytes: int = 0
    cpu_s: float = 0.0
    """Of its processes, not of the programs that use it."""
    methods: dict[str, int] = {}
    """What the requests were."""
    peak_mib: float = 0.0
    """The most memory that one of them had so far."""
    note: str = ""
    failed: str = ""
    """Why it came to no end; then `seconds` are those until it was given up."""


@dataclass(frozen=True)
class Goal:
    """What cloudfs is to reach in one kind of work, at any distance; None: nothing is asked."""

    text: str
    times_faster: float | None = None
    """Than the best peer."""
    times_faster_far: float | None = None
    """The same where the server is 40 ms away and more, if it is another."""
    of_limit: float | None = None
    """Of the limit's speed."""
    seconds: float | None = None
    requests: float | None = None
    bytes: float | None = None
    """In both directions."""
    cpu_of: float | None = None
    """Of the CPU time of rclone."""


@dataclass(frozen=True)
class Cell:
    """The middle of all runs of one client in one kind of work."""

    seconds: float
    requests: float
    down_bytes: float
    up_bytes: float
    cpu_s: float
    note: str
    failed: str
    runs: int


class Figures:
    """All that was measured, kept in a file as it comes, so that a long run can be broken off and gone on with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_bytes().splitlines() if path.exists() else []
        self._all = [msgspec.json.decode(line, type=Figure) for line in lines]

    def add(self, figure: Figure) -> None:
        """Keep one more."""
        self._all.append(figure)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(figure) + b"\n")

    def rtts(self) -> list[int]:
        """Return all distances, in milliseconds."""
        return sorted({figure.rtt_ms for figure in self._all})

    def clients(self) -> list[str]:
        """Return who was measured, in the order in which they came."""
        return list(dict.fromkeys(figure.client for figure in self._all))

    def cell(self, rtt_ms: int, work: str, client: str) -> Cell | None:
        """Return the middle of these; of those that came to an end, where any did."""
        found = [it for it in self._all if (it.rtt_ms, it.work, it.client) == (rtt_ms, work, client)]
        return _middle([it for it in found if not it.failed] or found)

    def peak_mib(self, client: str) -> float:
        """Return the most memory that it had in all of it."""
        return max((it.peak_mib for it in self._all if it.client == client), default=0.0)

    def runs(self, rtt_ms: int, work: str, client: str) -> int:
        """Return how often this was measured."""
        return sum((it.rtt_ms, it.work, it.client) == (rtt_ms, work, client) for it in self._all)

    def best_peer(self, rtt_ms: int, work: str) -> Cell | None:
        """Return the quickest of the others."""
        cells = [self.cell(rtt_ms, work, it) for it in self.clients() if it not in {US, LIMIT}]
        ended = [it for it in cells if it and not it.failed]
        return min(ended or [it for it in cells if it], key=lambda it: it.seconds, default=None)

    def ratio(self, rtt_ms: int, work: str) -> float | None:
        """Return how many times faster than the best peer we were; where no peer came to an end, at least so much."""
        ours, best = self.cell(rtt_ms, work, US), self.best_peer(rtt_ms, work)
        return best.seconds / ours.seconds if ours and best and not ours.failed else None

    def missed(self, rtt_ms: int, work: str, goal: Goal) -> list[str] | None:
        """Say what of the goal was not reached; None where it was not measured."""
        ours = self.cell(rtt_ms, work, US)
        if ours is None:
            return None
        if ours.failed:
            return [ours.failed]
        limit, rclone = self.cell(rtt_ms, work, LIMIT), self.cell(rtt_ms, work, "rclone")
        ratio = self.ratio(rtt_ms, work)
        times = (goal.times_faster_far if rtt_ms >= _FAR_MS else None) or goal.times_faster
        limit_s = limit.seconds / goal.of_limit if limit and goal.of_limit else None
        cpu_s = rclone.cpu_s * goal.cpu_of if rclone and goal.cpu_of else None
        checks = [
            (goal.seconds, ours.seconds, "{:.2f} s"),
            (goal.requests, ours.requests, "{:.0f} requests"),
            (goal.bytes, ours.down_bytes + ours.up_bytes, "{:,.0f} bytes"),
            (times and ratio and 1 / times, ratio and 1 / ratio, f"{ratio or 0:.1f} times"),
            (limit_s, ours.seconds, f"{limit.seconds / ours.seconds if limit else 0:.0%} of {LIMIT}"),
            (cpu_s, ours.cpu_s, "{:.1f} s of CPU"),
        ]  # fmt: skip
        return [text.format(got) for most, got, text in checks if most is not None and got and got > most]


def _middle(figures: Sequence[Figure]) -> Cell | None:
    if not figures:
        return None

    def middle(values: Iterable[float]) -> float:
        return statistics.median(list(values))

    return Cell(
        middle(it.seconds for it in figures),
        middle(it.requests for it in figures),
        middle(it.down_bytes for it in figures),
        middle(it.up_bytes for it in figures),
        middle(it.cpu_s for it in figures),
        figures[-1].note,
        figures[-1].failed,
        len(figures),
    )
