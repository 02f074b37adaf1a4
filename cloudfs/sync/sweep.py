"""Goes over the backlog of changes and plans for it in parts, so that one of any size leaves the loop to others.

One sweep follows the other. What a sweep found to begin, and what it found to wait, says when the next one is worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from cloudfs.store.nodes import Nodes
from cloudfs.sync.admission import Admission
from cloudfs.sync.dueness import Dueness
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.patience import Patience
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.replanning import still_right
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.rings import part_rings
from cloudfs.sync.steps import Remove, Step
from cloudfs.sync.underway import Underway
from cloudfs.types import Ino

__all__ = ["IDLE_S", "Judges", "Sweep"]

IDLE_S = 60.0
"""So long nothing is looked for where nothing calls for it."""
_PART = 128
"""Nodes planned for at once, about 5 ms; a larger backlog is gone through in parts."""
_REST = 10.0
"""Planning rests so many times as long as it took: it may have a tenth of the loop, however much there is to do."""


class Judges(NamedTuple):
    """Who says of a step that was planned what is to become of it."""

    admission: Admission
    dueness: Dueness
    obstacles: Obstacles
    restraint: Restraint
    patience: Patience
    is_current: Callable[[Step], bool]
    """Whether a step is about what its node still is."""


class _Part(NamedTuple):
    steps: list[Step]
    held_back: bool
    """Others wait: for each other, or for another part."""
    last: Ino | None
    """The last node; None: the backlog ends here."""


class Sweep:
    """Of one worker. `replan_s`: the shortest time between two plans."""

    def __init__(
        self, nodes: Nodes, underway: Underway, judges: Judges, *, replan_s: Callable[[], float]
    ) -> None:
        self._nodes = nodes
        self._underway = underway
        self._judges = judges
        self._replan_s = replan_s
        self.not_before = 0.0
        """trio time before which no plan is made."""
        self._planned_to = Ino(0)
        """How far the present sweep has come, 0 before it; and what was found in it:"""
        self._found = False
        self._held = False
        self._soonest = float("inf")
        self._rang = False
        """The bell rang since the present sweep began: parts that were planned before may have work now."""
        self._everything = False
        """The last sweep found nothing to start, but steps that wait: maybe for each other, across parts."""
        self._parted: list[Step] | None = None
        """What was found then among all of the backlog."""

    @property
    def in_part(self) -> bool:
        """Whether the present sweep has not come to the end of the backlog."""
        return bool(self._planned_to)

    def heard(self, *, bell: bool) -> None:
        """The worker was woken; by the `bell`: something has changed."""
        self._rang = self._rang or bell

    async def look_for_rings(self) -> None:
        """Look at all of the backlog for steps that wait for each other, where the last sweep calls for it."""
        if self._everything and self._parted is None:
            self._parted = await part_rings(self._nodes, self._may_begin)

    def _may_begin(self, step: Step) -> bool:
        return self._judges.admission.may_begin(step, trio.current_time())

    def plan(self) -> tuple[list[Step], float]:
        """Return what is due and runnable in the next part, and when to look again, in s. NO CHECKPOINT."""
        began = trio.current_time()
        self._rang = self._rang and bool(self._planned_to)
        part = self._next_part()
        if any(isinstance(step, Remove) for step in part.steps):
            self._judges.restraint.review()
        due = self._due(part.steps, began)
        now = trio.current_time()
        self.not_before = now + max(self._replan_s(), _REST * (now - began))
        self._found = self._found or any(self._judges.admission.fits(step) for step in due)
        self._held = self._held or part.held_back
        if part.last is not None:
            self._planned_to = part.last
            return due, self.not_before - now
        return due, self._end(now)

    def _next_part(self) -> _Part:
        if self._everything:
            # In a ring are only such as others wait for. There may be any number of files in a folder that is blocked.
            parted, self._parted = self._parted or (), None
            return _Part(
                still_right(self._nodes, parted, self._judges.is_current), held_back=False, last=None
            )
        nodes = self._nodes.dirty_after(self._planned_to, _PART)
        ends = len(nodes) < _PART
        planned = plan(nodes, self._nodes, whole=ends and not self._planned_to)
        steps = runnable(planned)
        return _Part(steps, len(steps) < len(planned), None if ends else nodes[-1].ino)

    def _due(self, steps: Sequence[Step], now: float) -> list[Step]:
        """Return those that may begin; of the others it is remembered when the first one may."""
        due: list[Step] = []
        for step in steps:
            self._judges.patience.meet(step, now)
            if self._judges.obstacles.is_held(step):
                continue
            due_at = self._judges.dueness.of(step)
            if due_at <= now:
                due.append(step)
            else:
                self._soonest = min(self._soonest, due_at)
        return due

    def _end(self, now: float) -> float:
        """End a sweep, or a look for rings; return when to look again, in s."""
        if not self._everything:
            self._judges.patience.end_of_pass()
        # What it started may be over by now, its end unheard while other parts were planned.
        alone = bool(self._planned_to) and not self._underway
        self._everything = alone and self._held and not self._found
        again = self._everything or (alone and self._found) or self._rang
        soonest = self.not_before if again else self._soonest
        self._planned_to = Ino(0)
        # Rings are looked for next, and among them is not what becomes due.
        self._soonest = self._soonest if self._everything else float("inf")
        self._found = self._held = False
        return max(min(soonest - now, IDLE_S), 0.0)
