"""What a step of ours has just changed: the server tells us of that too, and it need not be looked at, or not yet."""

from __future__ import annotations

from collections.abc import Iterable

from cloudfs.concurrency.times import Times
from cloudfs.types import Ino

__all__ = ["Echoes"]

_KEEP_S = 120.0
"""The push server gathers changes for up to 22 s (protocol.md §12)."""
_REST_S = 2.0
"""So long after the last step in a folder it is left to others."""
_MOST = 20_000


class Echoes:
    """File ids and folders, in memory. NO CHECKPOINT anywhere here."""

    def __init__(self) -> None:
        self._noted = Times[str](_MOST)
        self._at_work = Times[Ino](_MOST)

    def note(self, file_ids: Iterable[str | None]) -> None:
        """A step of ours has changed what has these ids."""
        for file_id in filter(None, file_ids):
            self._noted.note(file_id)

    def note_within(self, folders: Iterable[Ino]) -> None:
        """A step of ours has changed something in these."""
        for folder in folders:
            self._at_work.note(folder)

    def are_at_work(self, folder: Ino) -> bool:
        """Tell whether we have changed something in a folder a moment ago, and may do so again in the next."""
        return self._at_work.age_s(folder) < _REST_S

    def is_ours(self, file_id: str) -> bool:
        """Tell whether a step of ours changed it lately. Others may have, too."""
        return self._noted.age_s(file_id) <= _KEEP_S
