"""Pieces of uploads that nobody goes on with: what they were of was written over, moved or removed here since.

The server would keep them for a day, and count them. Which uploads are begun is noted in the database before the first
request of each, so that no crash leaves one behind unknown; whether one is still wanted is seen from its node. Removing
is an extra: it never delays an upload, and what fails is left for the next time, in the end for the server's own
cleaning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import RemoteError
from cloudfs.remote.protocol import Piecemeal
from cloudfs.store.store import Store
from cloudfs.types import ContentVersion, Ino

__all__ = ["Leftovers"]

_log = logging.getLogger(__name__)

_KEY = "pieces"
_LOOK_S = 600.0
_MOST = 1000
"""So many are remembered; more at once would take a day of nothing but failures."""


class Leftovers:
    """Remembers the uploads in pieces (`protocol.PiecesNoted`), and removes those that are not wanted any more."""

    def __init__(self, store: Store, remote: Piecemeal) -> None:
        self._store = store
        self._remote = remote
        text = store.note(_KEY)
        self._begun = {} if text is None else msgspec.json.decode(text, type=dict[str, str])
        """The name of what is sent, by the server's folder."""
        self._under_way: dict[str, str] = {}
        """The same of those that somebody is just sending. INVARIANT: of these nothing is removed."""
        self._unwanted: set[str] = set()
        """Folders of which that was said. Known no more after a crash, where it shows in the nodes: all has gone up."""
        self._left = trio.Event()
        self.told: Callable[[], None] = lambda: None
        """Called when something is about to go up in pieces (`is_under_way`)."""
        remote.note_pieces(self)

    def began(self, folder: str, name: str) -> None:
        """Note it before the server hears of it."""
        self._under_way[folder] = name
        self._unwanted.discard(folder)
        if folder not in self._begun and len(self._begun) < _MOST:
            self._remember(self._begun | {folder: name})
        reached("pieces noted")
        self.told()

    def begun(self, prefix: str) -> list[str]:
        """Return those that are noted."""
        return [folder for folder in self._begun if folder.startswith(prefix)]

    def is_under_way(self, name: str) -> bool:
        """Tell whether what is called so is just going up in pieces, and by nothing else."""
        return name in self._under_way.values()

    def ended(self, folder: str) -> None:
        """It was put together, or removed."""
        self._unwanted.discard(folder)
        if folder in self._begun:
            self._remember({key: name for key, name in self._begun.items() if key != folder})

    def unwanted(self, folder: str) -> None:
        """All went up in one request: the pieces are removed soon."""
        if folder in self._begun:
            self._unwanted.add(folder)
            self._left.set()

    def left(self, folder: str) -> None:
        """A try is over."""
        self._under_way.pop(folder, None)
        if folder in self._begun:
            self._left.set()

    async def run(self) -> None:
        """Remove what is not wanted, after each try that failed and every ten minutes, until cancelled."""
        while True:
            self._left = trio.Event()
            await self.clear()
            with trio.move_on_after(_LOOK_S):
                await self._left.wait()

    async def clear(self) -> None:
        """Remove what is not wanted now; what fails is tried again with the next call."""
        for folder in [folder for folder, name in self._begun.items() if not self._is_wanted(folder, name)]:
            if folder in self._under_way or folder not in self._begun:
                continue
            try:
                await self._remote.drop_pieces(folder)
            except RemoteError as error:
                _log.debug("pieces of an old upload stay on the server for now: %s", error)
                return
            reached("pieces removed")
            self.ended(folder)

    def _is_wanted(self, folder: str, name: str) -> bool:
        """Tell whether what is sent under a name (`Uploader`) is what its node still has to send."""
        if folder in self._unwanted:
            return False
        store_id, _, rest = name.partition("-")
        ino, _, rest = rest.partition("-")
        version = rest.partition("-")[0]
        node = self._store.nodes.get(Ino(int(ino))) if ino.isdecimal() else None
        if store_id != self._store.store_id or node is None or not node.linked:
            return False
        if not version.isdecimal():
            return True  # what a person decided about a conflict, who may do so once more
        return node.version == ContentVersion(int(version)) != node.s_version

    def _remember(self, begun: dict[str, str]) -> None:
        with self._store.transaction():
            self._store.put_note(_KEY, msgspec.json.encode(begun).decode() if begun else None)
        self._begun = begun
