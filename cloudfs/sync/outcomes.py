"""What became of steps: a failure is told in one sentence, and puts off or blocks its node; a success ends that."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cloudfs.errors import BaseLost, CloudfsError, LocalDamage, RemoteError, StorageAway
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import is_outage
from cloudfs.sync.patience import Patience
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.steps import FindOut, Remove, Step
from cloudfs.sync.storages import Storages
from cloudfs.sync.troubles import Troubles

__all__ = ["Outcomes"]

_log = logging.getLogger(__name__)


class Outcomes:
    """Of one worker. `is_current` tells whether a step is about what its node still is."""

    def __init__(
        self,
        store: Store,
        troubles: Troubles,
        storages: Storages,
        patience: Patience,
        restraint: Restraint,
        is_current: Callable[[Step], bool],
    ) -> None:
        self._store = store
        self._troubles = troubles
        self._storages = storages
        self._patience = patience
        self._restraint = restraint
        self._is_current = is_current
        self.succeeded: Callable[[Step], None] = lambda _: None
        """Hears of each step that was carried out."""

    def done(self, step: Step) -> None:
        """A step was carried out: what is to be done about its node from now on begins afresh."""
        self._patience.forget(step)
        node = self._store.nodes.get(step.node.ino)
        if not (isinstance(step, FindOut) and node is not None and node.dirty):
            self._troubles.forget(step.node.ino)
        self._storages.answered(step.node)
        if isinstance(step, Remove):
            self._restraint.sent(step.node)
        self.succeeded(step)

    def failed(self, step: Step, error: Exception) -> None:
        """Say why a step failed, and when it is tried again."""
        name = self._store.nodes.local_path(step.node.ino) or step.node.name
        log = logging.LoggerAdapter(_log, {"path": name})
        match error:
            case StorageAway():
                self._storages.failed(step.node)
                log.info("%s: not sent yet: %s", name, error)
            case RemoteError():
                if not is_outage(error):
                    self._troubles.add(step.node, error)
                log.info("%s: not sent yet: %s", name, error)
            case LocalDamage() | BaseLost() if not self._is_current(step):
                # What was to be sent has been replaced here since, and its bytes went; or what it was made from was
                # only moved there. The next plan has the new content, or the new place.
                log.info("%s: %s", name, error)
            case LocalDamage():
                self._troubles.add(step.node, error)
                log.error("%s: %s", name, error)  # the sentence says it all
            case CloudfsError():
                self._troubles.add(step.node, error)
                log.warning("%s: not sent yet: %s", name, error)
            case _:
                self._troubles.add(step.node, error)
                message = "%s: a step failed in an unexpected way and will be tried again"
                log.error(message, name, exc_info=error)
