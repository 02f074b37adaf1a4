"""Whether a step may begin now: it is due, and nothing stands in its way, of whatever kind."""

from __future__ import annotations

from cloudfs.sync.dueness import Dueness
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.steps import Remove, Step
from cloudfs.sync.storages import Storages
from cloudfs.sync.underway import Underway

__all__ = ["Admission"]


class Admission:
    """Of one worker. NO CHECKPOINT anywhere here."""

    def __init__(
        self, obstacles: Obstacles, storages: Storages, underway: Underway, dueness: Dueness
    ) -> None:
        self._obstacles = obstacles
        self._storages = storages
        self._underway = underway
        self._dueness = dueness

    def may_begin(self, step: Step, now: float) -> bool:
        """Tell whether a step may begin at this moment (trio time)."""
        return self._dueness.of(step) <= now and self.fits(step)

    def fits(self, step: Step) -> bool:
        """Tell whether nothing under way stands in the step's way, nor a person's word is missing."""
        if self._obstacles.is_held(step):
            return False
        if isinstance(step, Remove) and step.node.tombstone and self._obstacles.is_read(step.node):
            # Unlinked but open: its readers still need the server's copy.
            return False
        if self._storages.is_tried(step.node, self._underway.roots):
            return False
        return not self._underway.is_in_the_way_of(step)
