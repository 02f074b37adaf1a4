"""What one listing shows in a new place while that of its old one has yet to come: one thing, in two places here.

So it is where both folders are being listed at once, as neither can wait for the other. The new place has a node of its
own then, and once the old one is seen to be empty the two become one (`Arriving.reunite`). Where the old place turns
out to have it still, it stands in two places on the server as well (protocol.md §3.3), and both nodes stay.
"""

from __future__ import annotations

import trio

from cloudfs.types import Ino

__all__ = ["Twofold"]

_MOST = 1000
_LONGEST_S = 600.0
"""A folder that was not listed for so long is not waited for any more."""


class Twofold:
    """In memory: after a restart they are two. NO CHECKPOINT anywhere here."""

    def __init__(self) -> None:
        self._noted: dict[tuple[Ino, str], float] = {}
        """By old folder and file id: when (trio time)."""

    def __bool__(self) -> bool:
        return bool(self._noted)

    def note(self, file_id: str, folder: Ino) -> None:
        """Another folder was seen to have now what is known in this one, which was not asked for since."""
        now = trio.current_time()
        if len(self._noted) >= _MOST:
            self._noted = {key: at for key, at in self._noted.items() if at > now - _LONGEST_S}
        if len(self._noted) < _MOST:
            self._noted[folder, file_id] = now

    def seen(self, folder: Ino, asked_at: float) -> None:
        """An answer about a folder was taken over that was asked for at this time (trio): what it shows is there."""
        self._noted = {key: at for key, at in self._noted.items() if key[0] != folder or at >= asked_at}

    def covers(self, folder: Ino | None, file_id: str | None) -> bool:
        """Tell whether what is gone from a folder was seen in another one just before."""
        return (folder, file_id) in self._noted

    def noted(self) -> list[tuple[Ino, str]]:
        """Return all that is noted, old folders and file ids."""
        return list(self._noted)

    def forget(self, folder: Ino, file_id: str) -> None:
        """The two are one."""
        self._noted.pop((folder, file_id), None)
