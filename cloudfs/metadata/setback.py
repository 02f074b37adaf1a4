"""Notices that the server was set back: its administrator restored a backup, and says so by a new data fingerprint.

What it then lacks was not deleted, and what it has in an older version was not edited: nobody meant either. So no
absence is believed, no older version is taken over and no deletion goes up until a person says what is right.
SOURCE: protocol.md §2.1, oc:data-fingerprint.

Where the administrator forgets that, or the server has no such thing, older versions of much at once show it: as much
as may not vanish without a word either (`guard`). An older version of a single file is what a person has brought back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.metadata.guard import vanishes_too_much
from cloudfs.metadata.merge import Refresh
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["Setback"]

_log = logging.getLogger(__name__)

_KEY = "fingerprint"
_WINDOW_S = 600.0
"""Older versions that are seen within so long are looked at as one event."""
_BELIEVED_S = 86_400.0
"""So long after an answer older versions are taken over, however many: they may be those that it was about."""


class _Word(msgspec.Struct, frozen=True):
    """What has to survive a restart."""

    fingerprint: str
    """As last seen; "" until the first time that a backup is restored."""
    since: float | None = None
    """Unix s: when another one, or much in older versions, was seen that nobody has answered for yet."""
    answered: float | None = None
    """Unix s: when a person did last."""


class Setback:
    """Whether the server was set back, and which older versions are therefore not taken over.

    `distrust` is told whenever that begins or ends. What is kept stays as an observation of a clean node.
    """

    def __init__(
        self, store: Store, distrust: Callable[[bool], None] = lambda _: None, *, limit: int = 0
    ) -> None:
        """`limit`: so many files may have older versions at once without anybody being asked; 0: any number."""
        self._store = store
        self._distrust = distrust
        self._limit = limit
        self._older: dict[Ino, float] = {}
        """The files that were lately seen in an older version, and when (trio), the latest last."""
        text = store.note(_KEY)
        self._word = None if text is None else msgspec.json.decode(text, type=_Word)
        self._keeping = bool(store.observed_of_clean())

    @property
    def since(self) -> float | None:
        """Unix s; None: it was not, or a person has answered."""
        return None if self._word is None else self._word.since

    def seen(self, fingerprint: str | None) -> None:
        """A listing was made under this fingerprint (None: the server has none); before anything of it is believed."""
        if fingerprint is None or (self._word is not None and self._word.fingerprint == fingerprint):
            return
        first = self._word is None
        if first:
            self._remember(_Word(fingerprint))
        else:
            self._begin(fingerprint, "the server was set back to a backup")

    def _begin(self, fingerprint: str, what: str) -> None:
        self._remember(_Word(fingerprint, time.time()))
        reached("setback noted")
        _log.warning("%s: nothing is removed or replaced before an answer", what)
        self._distrust(True)  # noqa: FBT003  # the one thing it is told

    def keeps(self, node: Node, entry: RemoteEntry) -> bool:
        """Tell whether a clean file keeps its version although the server shows another; notes the other."""
        if self.since is None or not _is_older(node, entry):
            return False
        self._store.observe(node.ino, entry)
        self._keeping = True
        return True

    def begin_listing(self, folder: Ino, others: Collection[Refresh]) -> None:
        """A listing of a folder is about to be taken over: it tells anew what is kept there.

        `others`: the files that it shows other versions of. Each one counts as kept until it is taken over.
        """
        self._suspect([it.node.ino for it in others if _is_older(it.node, it.entry)])
        if self._keeping:
            self._store.clear_observed_of_clean(folder, but=[it.node.ino for it in others])

    def _suspect(self, older: Collection[Ino]) -> None:
        """Count the server as set back where it shows older versions of too much."""
        if not older or self.since is not None or self._limit <= 0 or self._is_answered_for():
            return
        now = trio.current_time()
        for ino in older:
            self._older.pop(ino, None)
            self._older[ino] = now
        while self._older[first := next(iter(self._older))] < now - _WINDOW_S:
            del self._older[first]
        count = len(self._older)
        if count > self._limit and vanishes_too_much(
            count, self._store.nodes.count_synced(2 * count), limit=self._limit
        ):
            self._older.clear()
            fingerprint = "" if self._word is None else self._word.fingerprint
            self._begin(
                fingerprint, f"the server shows {count} older versions, as after a backup was restored"
            )

    def _is_answered_for(self) -> bool:
        answered = None if self._word is None else self._word.answered
        return answered is not None and 0 <= time.time() - answered < _BELIEVED_S

    def kept(self) -> list[tuple[Ino, RemoteEntry]]:
        """Return the files that keep their version, and what the server has instead."""
        return self._store.observed_of_clean() if self._keeping else []

    def end(self) -> None:
        """A person has answered: what the server shows is believed again."""
        if self._word is not None and self._word.since is not None:
            self._remember(msgspec.structs.replace(self._word, since=None, answered=time.time()))
            self._distrust(False)  # noqa: FBT003  # as above

    def _remember(self, word: _Word) -> None:
        self._word = word
        self._store.put_note(_KEY, msgspec.json.encode(word).decode())


def _is_older(node: Node, entry: RemoteEntry) -> bool:
    return entry.version.modified_s < (node.s_modified_s or 0)
