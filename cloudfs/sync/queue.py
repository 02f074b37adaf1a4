"""The worker's queue: steps found to be due and runnable, which wait for a place. A hint and never a promise.

What is dropped from it is found again by a later plan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from cloudfs.sync.steps import MoveAside, SetTime, Step
from cloudfs.types import Ino

__all__ = ["MOST_ASIDE", "Queue"]

MOST_ASIDE = 128
"""So many steps are put aside."""


class Queue:
    """Of one worker. NO CHECKPOINT anywhere here."""

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()
        self._aside: dict[Ino, Step] = {}
        """Such that go together with others, in a request more than may be under way now."""

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    @property
    def next(self) -> Step:
        """The first one."""
        return self._steps[0]

    @property
    def aside(self) -> Sequence[Step]:
        """Those that were put aside."""
        return [*self._aside.values()]

    def take(self) -> Step:
        """Take the first one out."""
        return self._steps.popleft()

    def give_back(self, steps: Sequence[Step]) -> None:
        """Have steps that were taken be the first again, in this order."""
        self._steps.extendleft(reversed(steps))

    def begin_anew(self, steps: Iterable[Step]) -> None:
        """A plan has found these: they take the place of all others, small ones first."""
        self._steps = deque(sorted(steps, key=_small_first))

    def put_first(self, steps: Iterable[Step]) -> None:
        """Have these go before all others, small ones first."""
        self._lead(sorted(steps, key=_small_first))

    def put_aside(self, steps: Iterable[Step]) -> None:
        """Have steps wait beside the queue, as far as there is room."""
        for step in steps:
            if len(self._aside) < MOST_ASIDE:
                self._aside[step.node.ino] = step

    def bring_back(self) -> None:
        """Queue what was put aside before all others. A plan may have found and queued the same again."""
        if self._aside:
            self._lead(self.aside)
            self._aside.clear()

    def drop_what_needs_a_plan(self) -> None:
        """Drop steps of which planning for their nodes alone would not show whether they are still right."""
        self._steps = deque(step for step in self._steps if _keeps(step))

    def _lead(self, steps: Sequence[Step]) -> None:
        known = {step.node.ino for step in steps}
        self._steps = deque([*steps, *(step for step in self._steps if step.node.ino not in known)])


def _keeps(step: Step) -> bool:
    about_members = step.structural or (isinstance(step, SetTime) and bool(step.node.folder))
    return not about_members and not isinstance(step, MoveAside)


def _small_first(step: Step) -> tuple[int, int]:
    return step.node.size, step.node.ctime_ns
