"""A server that tells its clients of changes, as badly as a real one: late, twice, in part, or not at all.

SOURCE: protocol.md §12. notify_push gathers changes for up to 22 s; it names a file or folder and the folder that it is
in, before and after, of what was removed all folders above it; what it sends while a client is not connected is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import Enum, auto

import trio

from cloudfs.remote.protocol import Pushed
from tests.model.faults import FaultPlan, Span

__all__ = ["Fate", "PushLine"]

_SOON_S = 0.5
_LATE_S = 25.0
_STRANGE = ("99999999ocfake", "", "no id at all")
"""Of what this account does not have, or not any more."""


class Fate(Enum):
    """What becomes of a message."""

    AT_ONCE = auto()
    """It comes before the answer to the request that it tells of."""
    SOON = auto()
    LATE = auto()
    """When other changes, and their messages, were long since."""
    LOST = auto()
    TWICE = auto()
    STRANGE = auto()
    """It names what nobody knows, too."""
    ITSELF = auto()
    """It names only what has changed, or of what is gone the folder: where that is, and was, has to be found out."""
    PARTLY = auto()
    """It names one of the ids alone."""
    UNTOLD = auto()
    """It says that something has changed, and not what."""


_TOLD = (
    *[Fate.SOON] * 6,
    *[Fate.AT_ONCE] * 3,
    *[Fate.LATE] * 3,
    Fate.ITSELF,
    Fate.ITSELF,
    Fate.TWICE,
    Fate.STRANGE,
    Fate.UNTOLD,
)
_FATES = (*_TOLD, *[Fate.LOST] * 3, Fate.PARTLY)


class PushLine:
    """The way of one client's messages. `ears` hear them, as long as they are connected.

    `whole`: all of them come, sooner or later.
    """

    def __init__(
        self, ears: list[Callable[[Pushed], None]], faults: FaultPlan, chance: random.Random, *, whole: bool
    ) -> None:
        self._fates = _TOLD if whole else _FATES
        self._ears = ears
        self._faults = faults
        self._chance = chance

    def tell(self, ids: Sequence[str]) -> None:
        """Something has changed, in what has these ids."""
        if not self._ears:
            return
        fate = self._chance.choice(self._fates)
        match fate:
            case Fate.LOST:
                return
            case Fate.STRANGE:
                told = Pushed((*ids, self._chance.choice(_STRANGE)))
            case Fate.ITSELF:
                told = Pushed(tuple(ids[:1]))
            case Fate.PARTLY:
                told = Pushed((self._chance.choice(ids),))
            case Fate.UNTOLD:
                told = Pushed(None)
            case _:
                told = Pushed(tuple(ids))
        if fate is Fate.AT_ONCE and not self._faults.is_on(Span.AWAY):
            self._arrives(told)
            return
        for _ in range(2 if fate is Fate.TWICE else 1):
            after_s = self._chance.uniform(0, _LATE_S if fate in {Fate.LATE, Fate.TWICE} else _SOON_S)
            trio.lowlevel.spawn_system_task(self._arrives_after, after_s, told)

    async def _arrives_after(self, seconds: float, told: Pushed) -> None:
        await trio.sleep(seconds)
        while self._faults.is_on(Span.AWAY):
            await trio.sleep(1)  # a connection that did not break gets it through in the end
        self._arrives(told)

    def _arrives(self, told: Pushed) -> None:
        for heard in list(self._ears):
            heard(told)
