"""What keeps much from vanishing at once, here and there; neither believes a server that was set back."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.engine.ground import Ground
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.setback import Setback
from cloudfs.sync.restraint import Restraint

__all__ = ["Guards", "make_guards"]


@dataclass(frozen=True)
class Guards:
    """Of both sides."""

    guard: VanishGuard
    """Of what is here."""
    restraint: Restraint
    """Of what is on the server."""
    setback: Setback


def make_guards(ground: Ground) -> Guards:
    """Set them up as the account's limits say."""
    config, store, inbox = ground.config, ground.store, ground.inbox
    guard = VanishGuard(store, limit=config.delete_guard, released=inbox.start_afresh)
    restraint = Restraint(store, limit=config.delete_guard_server)

    def distrust(whether: bool) -> None:  # noqa: FBT001  # a callback
        guard.distrusted = restraint.distrusted = whether
        inbox.ring()

    setback = Setback(store, distrust, limit=config.delete_guard)
    distrust(setback.since is not None)
    return Guards(guard, restraint, setback)
