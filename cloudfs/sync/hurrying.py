"""Somebody waits for the server to have something: it goes before all else, and they hear when none of it is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import trio

from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.dueness import Dueness
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.progress import Progress
from cloudfs.sync.queue import Queue
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.steps import Remove, Step, Upload
from cloudfs.sync.troubles import Trouble
from cloudfs.sync.underway import Underway
from cloudfs.types import ContentVersion, Ino

__all__ = ["Hurry"]

_LOOK_AGAIN_S = 1.0
_LOOKED_AT = 64
"""Nodes of which it is told at once why they cannot go up, about 6 ms."""
_LIFTED = 32
"""So many nodes that somebody waits for are put before all others at once, about 2 ms."""


class Hurry:
    """Of one worker. `try_all` has it try again what was put off after failures."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        underway: Underway,
        dueness: Dueness,
        obstacles: Obstacles,
        restraint: Restraint,
        progress: Progress,
        *,
        try_all: Callable[[], None],
    ) -> None:
        self._store = store
        self._queue = queue
        self._underway = underway
        self._dueness = dueness
        self._obstacles = obstacles
        self._restraint = restraint
        self._progress = progress
        self._try_all = try_all
        self._wanted: set[Ino] = set()
        """To be put before all others: somebody waits for them."""

    async def wait_settled(self) -> None:
        """Return when nothing is under way any more but what the server does not have yet."""
        while any(self._is_there(step) for step in self._underway):
            await self._progress.bell.wait()

    async def wait_synced(self, concerns: Callable[[Ino], bool], *, settled: bool) -> list[Trouble]:
        """Hurry what concerns the caller, return when nothing of it is left to do; see `Worker.wait_synced`."""
        mark = self._store.nodes.last_version()
        self._dueness.hurried.append(concerns)
        self._try_all()
        try:
            while True:
                bell = self._progress.bell
                stopped = await self._stopped(concerns, mark, settled=settled)
                if stopped is not None and bell is self._progress.bell:
                    return stopped
                # A listing, too, may settle what was left, and nobody tells of that.
                with trio.move_on_after(_LOOK_AGAIN_S):
                    await bell.wait()
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

    def lift(self) -> None:
        """Queue first what somebody waits for, with the folders that have to be there before. NO CHECKPOINT."""
        if not self._wanted:
            return
        nodes, (wanted, self._wanted) = self._store.nodes, (self._wanted, set())
        found = (nodes.get(ino) for ino in wanted)
        dirty = [node for node in found if node is not None and node.dirty]
        steps = runnable(plan(dirty, nodes, whole=False))
        if any(isinstance(step, Remove) for step in steps):
            self._restraint.review()
        self._queue.put_first(steps)
