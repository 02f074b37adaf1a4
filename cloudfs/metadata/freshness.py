"""Who finds out by itself what other clients change, so that not every folder has to be asked for again."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Unwatched", "Watch"]


class Watch(Protocol):
    """What the lister asks of whoever watches the whole account."""

    def covers(self) -> bool:
        """Tell whether changes are found out without asking for each folder. At once, from memory."""
        ...

    def used(self) -> None:
        """Something in the account is used: it is worth a look soon. Never waits."""
        ...

    def at_work(self) -> None:
        """Somebody uses the account, and it needs no look for that before it is time. Never waits."""
        ...

    async def look(self) -> None:
        """Return once what was changed up to a moment ago is known; never waits long, and never raises."""
        ...


class Unwatched:
    """Nobody: each folder is asked for again when it is used and its time to live has passed."""

    def covers(self) -> bool:
        """Nothing is."""
        return False

    def used(self) -> None:
        """Ignore."""

    def at_work(self) -> None:
        """Ignore."""

    async def look(self) -> None:
        """Return at once."""
