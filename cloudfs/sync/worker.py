"""The write-back worker: plans, picks what is due, carries it out with bounded parallelism, and never gives up.

Everything it knows about tries and refusals is in memory: after a restart each step is simply tried again.

LOCK ORDER: none. Which steps must not run together `underway` knows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import msgspec
import trio

from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.bulk import MOST_BYTES, MOST_FILES
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.dueness import Dueness
from cloudfs.sync.execute import Executor
from cloudfs.sync.gathering import Gathering
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outcomes import Outcomes
from cloudfs.sync.patience import Patience
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.rings import part_rings
from cloudfs.sync.steps import FindOut, MakeFolder, MoveAside, Remove, SetTime, Step, Upload
from cloudfs.sync.storages import Storages
from cloudfs.sync.troubles import Trouble
from cloudfs.sync.underway import Underway
from cloudfs.types import ContentVersion, Ino

__all__ = ["Worker", "WorkerConfig"]

_log = logging.getLogger(__name__)


_LOOK_AGAIN_S = 1.0
_IDLE_S = 60.0
_PART = 128
"""Nodes planned for at once, about 5 ms; a larger backlog is gone through in parts."""
_MOST_OTHERS = 128
"""So many that others wait for are planned with them, and so many steps are put aside."""
_LOOKED_AT = 64
"""Nodes of which it is told at once why they cannot go up, about 6 ms."""
_MOST_TOGETHER = 2
_LIFTED = 32
"""So many nodes that somebody waits for are put before all others at once, about 2 ms."""
_REST = 10.0
"""Planning rests so many times as long as it took: it may have a tenth of the loop, however much there is to do."""


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


class Worker:
    """Brings every local change to the server; the floors below tell of changes through `inbox`."""

    def __init__(  # all that decides when something may be sent comes together here
        self,
        store: Store,
        inbox: Inbox,
        executor: Executor,
        connectivity: Connectivity,
        config: WorkerConfig,
        *,
        written_at: Callable[[Ino], float | None],
        restraint: Restraint,
        obstacles: Obstacles,
    ) -> None:
        self._store = store
        self.succeeded: Callable[[Step], None] = lambda _: None
        """Hears of each step that was carried out."""
        self._inbox = inbox
        self._executor = executor
        executor.tell_committed(self._tell_progress)
        self._connectivity = connectivity
        self.config = config
        self._restraint = restraint
        self._obstacles = obstacles
        self._patience = Patience()
        self._requests = self._together = 0
        """Under way: of all kinds, and those that carry out several steps at once."""
        self._progress = trio.Event()
        self._queue: deque[Step] = deque()
        """Found to be due and runnable, the next one first."""
        self._aside: dict[Ino, Step] = {}
        """Such that go together with others, in a request more than may be under way now."""
        self._wanted: set[Ino] = set()
        """To be put before all others: somebody waits for them."""
        self._plan_at = self._again_at = 0.0
        """trio time before which no plan is made; and when one may find something that it did not find before."""
        self._gathering = Gathering(config.quiet_s)
        self._planned_to = Ino(0)
        """How far the present pass over the backlog has come, 0 before it; and what was found in it:"""
        self._found = False
        self._held = False
        self._soonest = float("inf")
        self._rang = False
        """The bell rang since the present pass began: parts that were planned before may have work now."""
        self._everything = False
        """The last pass found nothing to start, but steps that wait: maybe for each other, across parts."""
        self._parted: list[Step] | None = None
        """What was found then among all of the backlog."""
        self.troubles = inbox.troubles
        self._storages = Storages(store.nodes)
        self._outcomes = Outcomes(store, inbox.troubles, self._storages, executor.is_current)
        self._dueness = Dueness(
            inbox, self._storages, self._patience, written_at=written_at, quiet_s=self._quiet_s
        )
        self._underway = Underway(store.nodes, self._storages.root_of)

    # What others call

    def in_flight(self) -> list[Node]:
        """Return the nodes whose steps are under way."""
        return [step.node for step in self._underway]

    def try_all_now(self) -> None:
        """Somebody waits, or the machine woke up: what was put off after a failure is due."""
        self.troubles.retry_all()
        self._storages.retry_all()
        self._connectivity.try_now()
        self._inbox.ring()

    @asynccontextmanager
    async def reserved(self, *inos: Ino) -> AsyncIterator[None]:
        """Have nodes to oneself within the block, and the folders above stay where they are.

        No step works on them, and nobody else has them reserved; waits for those that do. Not to be nested.
        """
        while not self._underway.reserve(inos):
            await self._progress.wait()
        try:
            while self._underway.works_on(inos):
                await self._progress.wait()
            yield
        finally:
            self._underway.free(inos)
            self._tell_progress()

    async def wait_settled(self) -> None:
        """Return when nothing is under way any more but what the server does not have yet."""
        while any(self._is_there(step) for step in self._underway):
            await self._progress.wait()

    async def wait_synced(self, concerns: Callable[[Ino], bool], *, settled: bool = True) -> list[Trouble]:
        """Hurry what concerns the caller, return when nothing of it is left to do.

        Returns the troubles of what cannot go up; [] when everything is on the server. Waits on while a
        step may still succeed by itself; the caller's cancel scope is the limit. What waits for a program (a file
        that was removed and is still open) is not waited for: all that can be on the server is there. Nor is what is
        written from now on, or a file that is always being written would never be done with. Nor, unless it is to be
        `settled`, that the bytes of what is there have become clean blocks here.
        """
        mark = self._store.nodes.last_version()
        self._dueness.hurried.append(concerns)
        self.try_all_now()
        try:
            while True:
                progress = self._progress
                stopped = await self._stopped(concerns, mark, settled=settled)
                if stopped is not None and progress is self._progress:
                    return stopped
                # A listing, too, may settle what was left, and nobody tells of that.
                with trio.move_on_after(_LOOK_AGAIN_S):
                    await progress.wait()
        finally:
            self._dueness.hurried.remove(concerns)

    async def _stopped(
        self, concerns: Callable[[Ino], bool], mark: ContentVersion, *, settled: bool
    ) -> list[Trouble] | None:
        """Return why each node that is left cannot go up, None as soon as one is found that may."""
        nodes = self._store.nodes
        under_way = [step for step in self._underway if concerns(step.node.ino)]
        under_way = [step for step in under_way if settled or not self._is_there(step)]
        current = [nodes.get(step.node.ino) for step in under_way]
        if any(node is None or not self._store.sent_since(node, mark) for node in current):
            return None
        found: list[Trouble] = []
        last, waiting = Ino(0), self._obstacles.waiting()
        while part := nodes.dirty_after(last, _LOOKED_AT):
            for node in part:
                if self._store.sent_since(node, mark) or not concerns(node.ino):
                    continue
                if not self._obstacles.waits_for_program(node):
                    trouble = self._obstacles.blocked(node)
                    if trouble is None and node.ino not in waiting:
                        self._want([it for it in part if it.ino >= node.ino], concerns)
                        return None
                    if trouble is not None and trouble not in found[-1:]:
                        found.append(trouble)
            last = part[-1].ino
            await trio.lowlevel.checkpoint()
        return found

    def _is_there(self, step: Step) -> bool:
        """Tell whether the server has what a step under way is to bring; its bytes may still become clean blocks."""
        node = self._store.nodes.get(step.node.ino)
        return isinstance(step, Upload) and node is not None and not node.dirty

    def _want(self, part: Sequence[Node], concerns: Callable[[Ino], bool]) -> None:
        """Have the first of these that concern somebody sent before others, where others wait for a slot."""
        if self._wanted or all(concerns(step.node.ino) for step in self._queue):
            return
        for ino in islice((node.ino for node in part if concerns(node.ino)), _LIFTED):
            self._wanted.update((ino, *self._store.nodes.ancestors(ino)))

    def _lift(self) -> None:
        """Queue first what somebody waits for, with the folders that have to be there before. NO CHECKPOINT."""
        if not self._wanted or self._free() <= 0:
            return
        nodes, (wanted, self._wanted) = self._store.nodes, (self._wanted, set())
        found = (nodes.get(ino) for ino in wanted)
        steps = runnable(
            plan([node for node in found if node is not None and node.dirty], nodes, whole=False)
        )
        if any(isinstance(step, Remove) for step in steps):
            self._restraint.review()
        lifted = {step.node.ino for step in steps}
        others = [step for step in self._queue if step.node.ino not in lifted]
        self._queue = deque([*sorted(steps, key=_small_first), *others])

    def _quiet_s(self) -> tuple[float, float]:
        return self.config.quiet_s, self.config.open_quiet_s

    # The loop

    async def run(self) -> None:
        """Work until cancelled. Every dirty node found at the start is due at once."""
        async with trio.open_nursery() as nursery:
            while True:
                bell = self._inbox.listen()
                if self._everything and self._parted is None:
                    self._parted = await part_rings(self._store.nodes, self._may_begin)
                with trio.move_on_after(self._round(nursery)):
                    await bell.wait()
                self._rang = self._rang or bell.is_set()

    def _round(self, nursery: trio.Nursery) -> float:
        """Start what can be started now; return after how many seconds to look again without being woken.

        NO CHECKPOINT: what is found about the steps under way holds to its end.
        """
        now = trio.current_time()
        self._underway.look_again()
        self._executor.break_off_unwanted()
        if self._connectivity.state is State.NEEDS_LOGIN or self._obstacles.is_paused():
            return _IDLE_S
        if now < self._connectivity.next_try:
            return self._connectivity.next_try - now
        self._bring_back()
        self._lift()
        self._start(nursery, self._is_still_right)
        if self._free() <= 0:
            return _IDLE_S
        if now < self._plan_at:
            return self._plan_at - now
        later = self._plan()
        self._again_at = now + later
        self._start(nursery, lambda _: True)
        self._queue = deque(step for step in self._queue if _keeps(step))
        return later

    def _free(self) -> int:
        # During an outage one step is enough to find out whether it is over.
        return (self.config.parallel if self._connectivity.online else 1) - self._requests

    def _start(self, nursery: trio.Nursery, is_right: Callable[[Step], bool]) -> None:
        now = trio.current_time()
        while self._queue and self._free() > self._kept_free(now):
            step = self._queue.popleft()
            # What is dropped here is found again by a later plan.
            if not (self._dueness.of(step) <= now and self._fits(step)):
                continue
            together = self._executor.takes_together(step)
            if together and self._together >= _MOST_TOGETHER:
                self._put_aside(step)
                continue
            if not is_right(step):
                continue
            if together:
                self._start_together(nursery, step, is_right)
                continue
            if isinstance(step, Remove):
                self._restraint.sending(step.node)
            self._begin(nursery, self._carry_out, step)

    def _kept_free(self, now: float) -> int:
        """Return how many places the next step leaves: one, where small files are gathering and it is none of them."""
        return int(self._gathering.waits(now) and not self._executor.takes_together(self._queue[0]))

    def _begin(self, nursery: trio.Nursery, carry_out: Callable[..., Awaitable[None]], *steps: Step) -> None:
        for step in steps:
            _log.debug("%s: %s begins", step.node.name, type(step).__name__)
        self._underway.begin(steps)
        self._requests += 1
        nursery.start_soon(carry_out, *steps)

    def _put_aside(self, step: Step) -> None:
        if len(self._aside) < _MOST_OTHERS:  # more is found again by a later plan
            self._aside[step.node.ino] = step

    def _bring_back(self) -> None:
        """Queue what was put aside, once there is room for it. A plan may have found and queued the same again."""
        if self._aside and self._together < _MOST_TOGETHER:
            others = [step for step in self._queue if step.node.ino not in self._aside]
            self._queue = deque([*self._aside.values(), *others])
            self._aside.clear()

    def _start_together(self, nursery: trio.Nursery, first: Step, is_right: Callable[[Step], bool]) -> None:
        """Start small uploads in one request, unless it is only a few."""
        now, chosen, left = trio.current_time(), [first], deque[Step]()
        size, full = first.node.size, False
        while self._queue and len(chosen) < MOST_FILES:
            step = self._queue.popleft()
            fits = self._executor.takes_together(step)
            if not fits or size + step.node.size > MOST_BYTES:
                full = full or fits
                left.append(step)
            elif self._dueness.of(step) <= now and self._fits(step) and is_right(step):
                chosen.append(step)
                size += step.node.size
        self._queue.extendleft(reversed(left))
        full = full or len(chosen) == MOST_FILES
        if not full and self._gathering.goes_on(now, self._again_at):
            for step in chosen:
                self._put_aside(step)
        elif len(chosen) >= self.config.together:
            self._gathering.over()
            self._together += 1
            self._begin(nursery, self._carry_out_together, *chosen)
        elif any(isinstance(step, MakeFolder) for step in self._underway):
            # More may come with the folders that are being made.
            for step in chosen:
                self._put_aside(step)
        else:
            if len(chosen) == 1:
                self._gathering.over()
            self._begin(nursery, self._carry_out, first)
            self._queue.extendleft(reversed(chosen[1:]))

    def _is_still_right(self, step: Step) -> bool:
        """Plan again for a step that was queued: the nodes around it may have changed since."""
        node = self._store.nodes.get(step.node.ino)
        if node is None or not node.dirty:
            return False
        again = runnable(plan([node], self._store.nodes, whole=False))
        return [(type(it), it.involved) for it in again] == [(type(step), step.involved)]

    def _still_right(self, found: Sequence[Step]) -> list[Step]:
        """Return those of the steps found in turns that may be carried out as things are by now."""
        # What one was found to wait for has no step of its own, which only shows where it is planned for together.
        others = islice((ino for step in found for ino in step.after), _MOST_OTHERS)
        wanted = dict.fromkeys([*(step.node.ino for step in found), *others])
        nodes = (self._store.nodes.get(ino) for ino in wanted)
        dirty = [node for node in nodes if node is not None and node.dirty]
        again = {(type(it), it.involved) for it in runnable(plan(dirty, self._store.nodes, whole=False))}
        return [
            step
            for step in found
            if (type(step), step.involved) in again
            or (isinstance(step, MoveAside) and self._executor.is_current(step))
        ]

    def _may_begin(self, step: Step) -> bool:
        return self._fits(step) and self._dueness.of(step) <= trio.current_time()

    def _plan(self) -> float:
        """Queue what is due and runnable in the next part of the backlog; return when to look again, in s."""
        began, nodes = trio.current_time(), self._store.nodes
        self._rang = self._rang and bool(self._planned_to)
        # In a ring are only such as others wait for. There may be any number of files in a folder that is blocked.
        rings = self._everything
        part = [] if rings else nodes.dirty_after(self._planned_to, _PART)
        ends = len(part) < _PART
        planned = plan(part, nodes, whole=ends and not self._planned_to)
        steps = self._still_right(self._parted or ()) if rings else runnable(planned)
        self._parted = None
        queue: list[Step] = []
        if any(isinstance(step, Remove) for step in steps):
            self._restraint.review()
        for step in steps:
            self._patience.meet(step, began)
            if self._obstacles.is_held(step):
                continue
            due = self._dueness.of(step)
            if due <= began:
                queue.append(step)
            else:
                self._soonest = min(self._soonest, due)
        self._queue = deque(sorted(queue, key=_small_first))
        now = trio.current_time()
        self._plan_at = now + max(self.config.replan_s, _REST * (now - began))
        self._found = self._found or any(self._fits(step) for step in self._queue)
        self._held = self._held or len(steps) < len(planned)
        if not ends:
            self._planned_to = part[-1].ino
            return self._plan_at - now
        if not rings:
            self._patience.end_of_pass()
        # The end of a pass. What it started may be over by now, its end unheard while other parts were planned.
        alone = bool(self._planned_to) and not self._underway
        self._everything = alone and self._held and not self._found
        again = self._everything or (alone and self._found) or self._rang
        soonest = self._plan_at if again else self._soonest
        self._planned_to = Ino(0)
        # Rings are looked for next, and among them is not what becomes due.
        self._soonest = self._soonest if self._everything else float("inf")
        self._found = self._held = False
        return max(min(soonest - now, _IDLE_S), 0.0)

    def _fits(self, step: Step) -> bool:
        """Tell whether nothing under way stands in the step's way, nor a person's word is missing."""
        if self._obstacles.is_held(step):
            return False
        if isinstance(step, Remove) and step.node.tombstone and self._obstacles.is_read(step.node):
            # Unlinked but open: its readers still need the server's copy.
            return False
        if self._storages.is_tried(step.node, self._underway.roots):
            return False
        return not self._underway.is_in_the_way_of(step)

    async def _carry_out(self, step: Step) -> None:
        try:
            removed = isinstance(step, Remove) and step.node.folder and step.node.tombstone
            if removed and await self._obstacles.find_readers(step.node):
                return
            if self._executor.is_current(step):
                await self._executor.run(step)
                self._conclude(step, None)
        except Exception as error:  # noqa: BLE001  # one step that breaks must not stop the others
            self._outcomes.note(step, error)
        finally:
            self._requests -= 1
            self._underway.end((step,))
            self._tell_progress()

    async def _carry_out_together(self, *steps: Upload) -> None:
        outcome: Mapping[Ino, Exception | None] = {}
        current = list(steps)
        try:
            current = [step for step in steps if self._executor.is_current(step)]
            outcome = await self._executor.run_together(current)
        except Exception as error:  # noqa: BLE001  # steps that break must not stop the others
            outcome = {step.node.ino: error for step in current}
        finally:
            self._together -= 1
            self._requests -= 1
            self._underway.end(steps)
            for step in steps:
                if step.node.ino in outcome:
                    self._conclude(step, outcome[step.node.ino])
            self._tell_progress()

    def _conclude(self, step: Step, error: Exception | None) -> None:
        if error is not None:
            self._outcomes.note(step, error)
            return
        self._patience.forget(step)
        node = self._store.nodes.get(step.node.ino)
        if not (isinstance(step, FindOut) and node is not None and node.dirty):
            self.troubles.forget(step.node.ino)
        self._storages.answered(step.node)
        if isinstance(step, Remove):
            self._restraint.sent(step.node)
        self.succeeded(step)

    def _tell_progress(self) -> None:
        """Whatever came of steps: look for new work, tell those who wait."""
        self._inbox.ring()
        progress, self._progress = self._progress, trio.Event()
        progress.set()


def _keeps(step: Step) -> bool:
    """Tell whether a step may stand in the queue: planning for its node alone shows whether it is still right."""
    about_members = step.structural or (isinstance(step, SetTime) and bool(step.node.folder))
    return not about_members and not isinstance(step, MoveAside)


def _small_first(step: Step) -> tuple[int, int]:
    return step.node.size, step.node.ctime_ns
