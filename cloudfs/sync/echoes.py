"""Which files a step of ours has just changed: the server tells us of that too, and it need not be looked at."""

from __future__ import annotations

from collections.abc import Iterable

from cloudfs.concurrency.times import Times

__all__ = ["Echoes"]

_KEEP_S = 120.0
"""The push server gathers changes for up to 22 s (protocol.md §12)."""
_MOST = 20_000


class Echoes:
    """File ids, in memory. NO CHECKPOINT anywhere here."""

    def __init__(self) -> None:
        self._noted = Times[str](_MOST)

    def note(self, file_ids: Iterable[str | None]) -> None:
        """A step of ours has changed what has these ids."""
        for file_id in filter(None, file_ids):
            self._noted.note(file_id)

    def is_ours(self, file_id: str) -> bool:
        """Tell whether a step of ours changed it lately. Others may have, too."""
        return self._noted.age_s(file_id) <= _KEEP_S
