"""What goes to a name of this machine alone, or comes back from it, takes along all that is in it: `local_only`.

Few nodes are marked with the rename. Very many are marked after it, in slices: until they are, a note in the database
names the folder, and no step is begun (`pending`), so nobody acts upon a mark that is out of date. INVARIANT: a folder
has the right mark before its members are looked at; what is put into it meanwhile takes it over from there.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.paths import is_local_only
from cloudfs.store.store import Store
from cloudfs.types import Ino

__all__ = ["Spreading"]

_FEW = 500
"""So many nodes are marked at once: 5 ms."""
_SLICE = 250
_KEY = "spreading"


class Spreading:
    """One account's. `changed` is told of every node below; `done` when what was pending no longer is."""

    def __init__(
        self, store: Store, changed: Callable[[Ino], None], done: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._changed = changed
        self._done = done
        text = store.note(_KEY)
        self._tops: list[Ino] = [] if text is None else msgspec.json.decode(text, type=list[Ino])
        self._bell = trio.Event()

    @property
    def pending(self) -> bool:
        """Tell whether some nodes are not marked yet."""
        return bool(self._tops)

    def begin(self, top: Ino) -> None:
        """A folder's own mark was changed in this transaction: have what is below it marked. NO CHECKPOINT."""
        if self._nodes.knows_below(top, more_than=_FEW):
            self._tops.append(top)
            self._save()
            self._bell.set()
            return
        left = [top]
        for folder in left:
            last = ""
            while page := self._mark(folder, last):
                last, folders = page
                left += folders

    def _mark(self, folder: Ino, after: str) -> tuple[str, list[Ino]] | None:
        """Mark the next members of a folder; return the name of the last one, and which of them are folders."""
        node = self._nodes.get(folder)
        members = [] if node is None else self._nodes.members_after(folder, after, _SLICE)
        if node is None or not members:
            return None
        turned: dict[bool, list[Ino]] = {False: [], True: []}
        for child, name, _, was in members:
            local_only = bool(node.local_only) or is_local_only(name)
            if local_only != bool(was):
                turned[local_only].append(child)
            self._changed(child)
        for value, inos in turned.items():
            self._nodes.set_local_only(inos, value)
        return members[-1][1], [child for child, _, is_folder, _ in members if is_folder]

    async def run(self) -> None:
        """Mark for ever; at the start what an earlier life of the process left."""
        while True:
            while self._tops:
                await self._spread(self._tops[0])
                del self._tops[0]
                self._save()
                self._done()
            await self._bell.wait()
            self._bell = trio.Event()

    async def _spread(self, top: Ino) -> None:
        left = [top]
        for folder in left:
            last = ""
            while True:
                with self._store.transaction():
                    page = self._mark(folder, last)
                if page is None:
                    break
                last, folders = page
                left += folders
                reached("part marked")
                await trio.lowlevel.checkpoint()

    def _save(self) -> None:
        self._store.put_note(_KEY, msgspec.json.encode(self._tops).decode() if self._tops else None)
