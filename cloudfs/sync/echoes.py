"""Which files a step of ours has just changed: the server tells us of that too, and it need not be looked at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import trio

__all__ = ["Echoes"]

_KEEP_S = 120.0
"""The push server gathers changes for up to 22 s (protocol.md §12)."""
_MOST = 20_000


class Echoes:
    """File ids, in memory. NO CHECKPOINT anywhere here."""

    def __init__(self) -> None:
        self._noted: OrderedDict[str, float] = OrderedDict()

    def note(self, file_ids: Iterable[str | None]) -> None:
        """A step of ours has changed what has these ids."""
        now = trio.current_time()
        for file_id in filter(None, file_ids):
            self._noted.pop(file_id, None)
            self._noted[file_id] = now
        while self._noted and (len(self._noted) > _MOST or now - next(iter(self._noted.values())) > _KEEP_S):
            self._noted.popitem(last=False)

    def is_ours(self, file_id: str) -> bool:
        """Tell whether a step of ours changed it lately. Others may have, too."""
        noted_at = self._noted.get(file_id)
        return noted_at is not None and trio.current_time() - noted_at <= _KEEP_S
