"""Starts steps from the queue: so many at once, and small uploads many in one request."""

from __future__ import annotations

from collections.abc import Callable

import trio

from cloudfs.store.nodes import Nodes
from cloudfs.sync.admission import Admission
from cloudfs.sync.bulk import MOST_BYTES, MOST_FILES
from cloudfs.sync.carrying import Carrier
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.gathering import Gathering
from cloudfs.sync.queue import Queue
from cloudfs.sync.replanning import is_still_right
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.steps import Remove, Step

__all__ = ["Starter"]

_MOST_TOGETHER = 2


class Starter:
    """Of one worker. NO CHECKPOINT anywhere here.

    `takes_together`: whether a step may go together with others; `most`: how many requests may be under way now.
    """

    def __init__(
        self,
        nodes: Nodes,
        queue: Queue,
        admission: Admission,
        carrier: Carrier,
        restraint: Restraint,
        *,
        takes_together: Callable[[Step], bool],
        most: Callable[[], int],
        config: Callable[[], WorkerConfig],
    ) -> None:
        self._nodes = nodes
        self._queue = queue
        self._admission = admission
        self._carrier = carrier
        self._restraint = restraint
        self._takes_together = takes_together
        self._most = most
        self._config = config
        self._gathering = Gathering(config().quiet_s)
        self._again_at, self._in_part = 0.0, False

    def free(self) -> int:
        """Return how many more requests may begin; none or less: nothing more may."""
        return self._most() - self._carrier.requests

    def start_planned(self, nursery: trio.Nursery, again_at: float, *, in_part: bool) -> None:
        """Start what was planned right now; `again_at`: when another plan may find what this one did not (trio).

        `in_part`: there is more of the backlog that was not planned for.
        """
        self._again_at, self._in_part = again_at, in_part
        self._start(nursery, lambda _: True)

    def bring_back(self) -> None:
        """Queue what was put aside, once there is room for it."""
        if self._carrier.together < _MOST_TOGETHER:
            self._queue.bring_back()

    def start_queued(self, nursery: trio.Nursery) -> None:
        """Start what was planned before, as far as it is still right."""
        self._start(nursery, lambda step: is_still_right(self._nodes, step))

    def _start(self, nursery: trio.Nursery, is_right: Callable[[Step], bool]) -> None:
        now = trio.current_time()
        while self._queue and self.free() > self._kept_free(now):
            step = self._queue.take()
            if not self._admission.may_begin(step, now):
                continue
            together = self._takes_together(step)
            if together and self._carrier.together >= _MOST_TOGETHER:
                self._queue.put_aside([step])
            elif is_right(step):
                if together:
                    self._start_together(nursery, step, is_right)
                else:
                    self._start_alone(nursery, step)

    def _kept_free(self, now: float) -> int:
        """Return how many places the next step leaves: one, where small files are gathering and it is none of them."""
        return int(self._gathering.waits(now) and not self._takes_together(self._queue.next))

    def _start_alone(self, nursery: trio.Nursery, step: Step) -> None:
        if isinstance(step, Remove):
            self._restraint.sending(step.node)
        self._carrier.begin(nursery, step)

    def _start_together(self, nursery: trio.Nursery, first: Step, is_right: Callable[[Step], bool]) -> None:
        """Start small uploads in one request, unless it is only a few."""
        now = trio.current_time()
        chosen, full = self._choose(first, now, is_right)
        if not full and self._gathering.goes_on(now, len(chosen), self._again_at, in_part=self._in_part):
            self._queue.put_aside(chosen)
        elif len(chosen) >= self._config().together:
            self._gathering.over()
            self._carrier.begin_together(nursery, chosen)
        elif self._carrier.is_making_folders():
            # More may come with the folders that are being made.
            self._queue.put_aside(chosen)
        else:
            if len(chosen) == 1:
                self._gathering.over()
            self._carrier.begin(nursery, first)
            self._queue.give_back(chosen[1:])

    def _choose(self, first: Step, now: float, is_right: Callable[[Step], bool]) -> tuple[list[Step], bool]:
        """Take those from the queue that go with the first one; return them, and whether no more would fit."""
        chosen, left = [first], list[Step]()
        size, full = first.node.size, False
        while self._queue and len(chosen) < MOST_FILES:
            step = self._queue.take()
            fits = self._takes_together(step)
            if not fits or size + step.node.size > MOST_BYTES:
                full = full or fits
                left.append(step)
            elif self._admission.may_begin(step, now) and is_right(step):
                chosen.append(step)
                size += step.node.size
        self._queue.give_back(left)
        return chosen, full or len(chosen) == MOST_FILES
