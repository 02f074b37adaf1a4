"""When a step may begin: once its node was left alone for a while, at once if somebody waits, later after failures."""

from __future__ import annotations

from collections.abc import Callable

from cloudfs.store.records import Node
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.patience import Patience
from cloudfs.sync.steps import Remove, Step
from cloudfs.sync.storages import Storages
from cloudfs.types import Ino

__all__ = ["Dueness"]

_EMPTIED_S = 30.0
"""A removed file waits so long while more is removed from its folder: in the end that may go, and all with it."""


class Dueness:
    """Of one worker's steps. `quiet_s` says how long a node is left alone, and one that is open for writing."""

    def __init__(
        self,
        inbox: Inbox,
        storages: Storages,
        patience: Patience,
        *,
        written_at: Callable[[Ino], float | None],
        quiet_s: Callable[[], tuple[float, float]],
    ) -> None:
        self._inbox = inbox
        self._troubles = inbox.troubles
        self._storages = storages
        self._patience = patience
        self._written_at = written_at
        self._quiet_s = quiet_s
        self.hurried: list[Callable[[Ino], bool]] = []
        """What somebody waits for."""

    def of(self, step: Step) -> float:
        """Return the trio time from which on a step may begin: quiet for long enough, and no failure a moment ago."""
        ino = step.node.ino
        put_off = max(self._troubles.due(ino), self._storages.due(step.node))
        if any(concerns(ino) for concerns in self.hurried):
            return put_off
        written_at = self._written_at(ino)
        quiet = self._quiet_s()[written_at is not None]
        # Single writes ring no bell: there may be thousands in a second.
        changes = [self._inbox.changed_at(node.ino) for node in step.involved]
        changes += [] if written_at is None else [written_at]
        due = max(changes) + quiet
        if isinstance(step, Remove):
            due = max(due, self._emptied(step.node, max(changes)))
        return max(min(due, self._patience.ends_at(step)), put_off)

    def _emptied(self, node: Node, changed_at: float) -> float:
        """Return when a removal need not wait any more for that of its folder, which takes it along: `rm -r`."""
        if not node.tombstone or node.s_parent is None:
            return changed_at
        quiet_at = self._inbox.emptied_at(node.s_parent) + self._quiet_s()[0]
        # Of many removals only the last have a time.
        longest = float("inf") if changed_at == float("-inf") else changed_at + _EMPTIED_S
        return min(quiet_at, longest)
