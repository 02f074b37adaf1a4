"""Carries out steps beside each other, one or several in a request, and counts what is under way."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from cloudfs.sync.execute import Executor
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outcomes import Outcomes
from cloudfs.sync.steps import MakeFolder, Remove, Step, Upload
from cloudfs.sync.underway import Underway
from cloudfs.types import Ino

__all__ = ["Carrier"]

_log = logging.getLogger(__name__)


class Carrier:
    """Of one worker. `over` is called each time steps are over, whatever came of them."""

    def __init__(
        self,
        executor: Executor,
        obstacles: Obstacles,
        outcomes: Outcomes,
        underway: Underway,
        over: Callable[[], None],
    ) -> None:
        self._executor = executor
        self._obstacles = obstacles
        self._outcomes = outcomes
        self._underway = underway
        self._over = over
        self.requests = 0
        """Under way, of all kinds."""
        self.together = 0
        """Under way, of those that carry out several steps at once."""

    def is_making_folders(self) -> bool:
        """Tell whether a folder is being made on the server."""
        return any(isinstance(step, MakeFolder) for step in self._underway)

    def begin(self, nursery: trio.Nursery, step: Step) -> None:
        """Have a step carried out. NO CHECKPOINT."""
        self._begin(nursery, self._carry_out, (step,))

    def begin_together(self, nursery: trio.Nursery, steps: Sequence[Step]) -> None:
        """Have several carried out in one request. NO CHECKPOINT."""
        self.together += 1
        self._begin(nursery, self._carry_out_together, steps)

    def _begin(
        self, nursery: trio.Nursery, carry_out: Callable[..., Awaitable[None]], steps: Sequence[Step]
    ) -> None:
        for step in steps:
            _log.debug("%s: %s begins", step.node.name, type(step).__name__)
        self._underway.begin(steps)
        self.requests += 1
        nursery.start_soon(carry_out, *steps)

    async def _carry_out(self, step: Step) -> None:
        try:
            removed = isinstance(step, Remove) and step.node.folder and step.node.tombstone
            if removed and await self._obstacles.find_readers(step.node):
                return
            if self._executor.is_current(step):
                await self._executor.run(step)
                self._outcomes.done(step)
        except Exception as error:  # noqa: BLE001  # one step that breaks must not stop the others
            self._outcomes.failed(step, error)
        finally:
            self.requests -= 1
            self._underway.end((step,))
            self._over()

    async def _carry_out_together(self, *steps: Upload) -> None:
        outcome: Mapping[Ino, Exception | None] = {}
        current = list(steps)
        try:
            current = [step for step in steps if self._executor.is_current(step)]
            outcome = await self._executor.run_together(current)
        except Exception as error:  # noqa: BLE001  # steps that break must not stop the others
            outcome = {step.node.ino: error for step in current}
        finally:
            self.together -= 1
            self.requests -= 1
            self._underway.end(steps)
            self._conclude(steps, outcome)
            self._over()

    def _conclude(self, steps: Sequence[Upload], outcome: Mapping[Ino, Exception | None]) -> None:
        for step in steps:
            if step.node.ino not in outcome:
                continue  # it was skipped: the next plan decides anew
            if (error := outcome[step.node.ino]) is None:
                self._outcomes.done(step)
            else:
                self._outcomes.failed(step, error)
