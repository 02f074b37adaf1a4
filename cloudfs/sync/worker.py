"""The write-back worker: plans, picks what is due, carries it out with bounded parallelism, and never gives up.

    changes -> `sweep` plans a part of them -> `queue` -> `starting` -> `carrying` -> `outcomes`

What somebody waits for goes before all else (`hurrying`). Everything that is known about tries and refusals is in
memory: after a restart each step is simply tried again.

LOCK ORDER: none. Which steps must not run together `underway` knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.admission import Admission
from cloudfs.sync.carrying import Carrier
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.dueness import Dueness
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.execute import Executor
from cloudfs.sync.hurrying import Hurry
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outcomes import Outcomes
from cloudfs.sync.patience import Patience
from cloudfs.sync.progress import Progress
from cloudfs.sync.queue import Queue
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.starting import Starter
from cloudfs.sync.storages import Storages
from cloudfs.sync.sweep import IDLE_S, Judges, Sweep
from cloudfs.sync.troubles import Trouble
from cloudfs.sync.underway import Underway
from cloudfs.types import Ino

__all__ = ["Worker", "WorkerConfig"]


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
        nodes = store.nodes
        self.config = config
        self.troubles = inbox.troubles
        self._inbox = inbox
        self._executor = executor
        self._connectivity = connectivity
        self._obstacles = obstacles
        self._progress = Progress()
        executor.tell_committed(self._progress.tell)
        self._queue = Queue()
        self._storages = Storages(nodes)
        self._underway = Underway(nodes, self._storages.root_of)
        patience, is_current = Patience(), executor.is_current
        dueness = Dueness(inbox, self._storages, patience, written_at=written_at, quiet_s=self._quiet_s)
        admission = Admission(obstacles, self._storages, self._underway, dueness)
        judges = Judges(admission, dueness, obstacles, restraint, patience, is_current)
        self._sweep = Sweep(nodes, self._underway, judges, replan_s=lambda: self.config.replan_s)
        self.outcomes = Outcomes(store, self.troubles, self._storages, patience, restraint, is_current)
        carrier = Carrier(executor, obstacles, self.outcomes, self._underway, self._over)
        self._starter = Starter(
            nodes,
            self._queue,
            admission,
            carrier,
            restraint,
            takes_together=executor.takes_together,
            most=self._most,
            config=lambda: self.config,
        )
        self._hurry = Hurry(
            store,
            self._queue,
            self._underway,
            dueness,
            obstacles,
            restraint,
            self._progress,
            try_all=self.try_all_now,
        )

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
            await self._progress.bell.wait()
        try:
            while self._underway.works_on(inos):
                await self._progress.bell.wait()
            yield
        finally:
            self._underway.free(inos)
            self._over()

    async def wait_settled(self) -> None:
        """Return when nothing is under way any more but what the server does not have yet."""
        await self._hurry.wait_settled()

    async def wait_synced(self, concerns: Callable[[Ino], bool], *, settled: bool = True) -> list[Trouble]:
        """Hurry what concerns the caller, return when nothing of it is left to do.

        Returns the troubles of what cannot go up; [] when everything is on the server. Waits on while a
        step may still succeed by itself; the caller's cancel scope is the limit. What waits for a program (a file
        that was removed and is still open) is not waited for: all that can be on the server is there. Nor is what is
        written from now on, or a file that is always being written would never be done with. Nor, unless it is to be
        `settled`, that the bytes of what is there have become clean blocks here.
        """
        return await self._hurry.wait_synced(concerns, settled=settled)

    # What those who work for it ask

    def _quiet_s(self) -> tuple[float, float]:
        return self.config.quiet_s, self.config.open_quiet_s

    def _most(self) -> int:
        # During an outage one step is enough to find out whether it is over.
        return self.config.parallel if self._connectivity.online else 1

    def _over(self) -> None:
        """Whatever came of steps: look for new work, tell those who wait."""
        self._inbox.ring()
        self._progress.tell()

    # The loop

    async def run(self) -> None:
        """Work until cancelled. Every dirty node found at the start is due at once."""
        async with trio.open_nursery() as nursery:
            while True:
                bell = self._inbox.listen()
                await self._sweep.look_for_rings()
                with trio.move_on_after(self._round(nursery)):
                    await bell.wait()
                self._sweep.heard(bell=bell.is_set())

    def _round(self, nursery: trio.Nursery) -> float:
        """Start what can be started now; return after how many seconds to look again without being woken.

        NO CHECKPOINT: what is found about the steps under way holds to its end.
        """
        now = trio.current_time()
        self._underway.look_again()
        self._executor.break_off_unwanted()
        if self._connectivity.state is State.NEEDS_LOGIN or self._obstacles.is_paused():
            return IDLE_S
        if now < self._connectivity.next_try:
            return self._connectivity.next_try - now
        self._starter.bring_back()
        if self._starter.free() > 0:
            self._hurry.lift()
        self._starter.start_queued(nursery)
        if self._starter.free() <= 0:
            return IDLE_S
        if now < self._sweep.not_before:
            return self._sweep.not_before - now
        found, later = self._sweep.plan()
        self._queue.begin_anew(found)
        self._starter.start_planned(nursery, again_at=now + later, in_part=self._sweep.in_part)
        self._queue.drop_what_needs_a_plan()
        return later
