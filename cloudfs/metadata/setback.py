"""Notices that the server was set back: its administrator restored a backup, and says so by a new data fingerprint.

What it then lacks was not deleted, and what it has in an older version was not edited: nobody meant either. So no
absence is believed, no older version is taken over and no deletion goes up until a person says what is right.
SOURCE: protocol.md §2.1, oc:data-fingerprint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import msgspec

from cloudfs.concurrency.killpoints import reached
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import Ino, RemoteEntry

__all__ = ["Setback"]

_log = logging.getLogger(__name__)

_KEY = "fingerprint"


class _Word(msgspec.Struct, frozen=True):
    """What has to survive a restart."""

    fingerprint: str
    """As last seen; "" until the first time that a backup is restored."""
    since: float | None = None
    """Unix s: when another one was seen that nobody has answered for yet."""


class Setback:
    """Whether the server was set back, and which older versions are therefore not taken over.

    `distrust` is told whenever that begins or ends. What is kept stays as an observation of a clean node.
    """

    def __init__(self, store: Store, distrust: Callable[[bool], None] = lambda _: None) -> None:
        self._store = store
        self._distrust = distrust
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
        self._remember(_Word(fingerprint, None if first else time.time()))
        if not first:
            reached("setback noted")
            _log.warning(
                "the server was set back to a backup: nothing is removed or replaced before an answer"
            )
            self._distrust(True)  # noqa: FBT003  # the one thing it is told

    def keeps(self, node: Node, entry: RemoteEntry) -> bool:
        """Tell whether a clean file keeps its version although the server shows another; notes the other."""
        if self.since is None or entry.version.modified_s >= (node.s_modified_s or 0):
            return False
        self._store.observe(node.ino, entry)
        self._keeping = True
        return True

    def begin_listing(self, folder: Ino, others: Collection[Ino]) -> None:
        """A listing of a folder is about to be taken over: it tells anew what is kept there.

        `others`: the files that it shows other versions of. Each one counts as kept until it is taken over.
        """
        if self._keeping:
            self._store.clear_observed_of_clean(folder, but=others)

    def kept(self) -> list[tuple[Ino, RemoteEntry]]:
        """Return the files that keep their version, and what the server has instead."""
        return self._store.observed_of_clean() if self._keeping else []

    def end(self) -> None:
        """A person has answered: what the server shows is believed again."""
        if self._word is not None and self._word.since is not None:
            self._remember(msgspec.structs.replace(self._word, since=None))
            self._distrust(False)  # noqa: FBT003  # as above

    def _remember(self, word: _Word) -> None:
        self._word = word
        self._store.put_note(_KEY, msgspec.json.encode(word).decode())
