"""Stops the sudden disappearance of much: by a server that lost a disk, a wrong restore, a slip of a hand.

Remote → here: what a listing lacks is dropped, unless it is so much that a person should know first. Then the nodes
stay as they are, cached contents included, until somebody says what is meant or the server shows them again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.concurrency.slices import slices, turns
from cloudfs.metadata.merge import Change, Drop, Refresh
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.types import ROOT, Ino

__all__ = ["Holding", "VanishGuard", "vanishes_too_much"]

_log = logging.getLogger(__name__)

_HANDFUL = 10
_WINDOW_S = 600.0
"""What vanishes within so long is looked at as one event."""
_MOST_NOTED = 10_000
"""So many are known one by one, of what vanished within that time."""
_OTHERS = Ino(0)
_AT_ONCE = 256
"""Absences looked at between two checkpoints: 5 ms."""
_MANY = 10_000
"""Changes of which only the absences are picked out between two: 1 ms."""
_ALL = 1 << 60
_KEY, _RETURNED = "vanished", "returned"


def vanishes_too_much(
    count: int, known: int, *, limit: int, emptied: int = 0, distrusted: bool = False
) -> bool:
    """Tell whether so many nodes must not vanish without a word from a person. Pure.

    `count`: nodes that would be gone, with those of the last minutes; `known`: nodes there were before; `limit`: the
    user's setting, 0 for no guard; `emptied`: as `count`, if the account's root has nothing any more, else 0;
    `distrusted`: the server is known to have been set back (oc:data-fingerprint), so that no absence is believed.
    """
    if count <= 0:
        return False
    if distrusted:
        return True
    if limit <= 0:
        return False
    return emptied > _HANDFUL or (count > limit and 2 * count > known)


class Holding(msgspec.Struct, frozen=True):
    """One node that the server does not show any more, and that stays here."""

    ino: Ino
    folder: Ino
    """Where it stands on the server, as far as we know."""
    count: int
    """Nodes: itself and all known below it."""
    since: float
    """Unix s."""
    accepted: bool = False
    """Somebody has said that it may go: the next listing that lacks it is believed."""


class VanishGuard:
    """Decides for each folder's listing which of its absences are believed. What is held survives a restart."""

    def __init__(self, store: Store, *, limit: int, released: Callable[[], None] = lambda: None) -> None:
        """`released` is called when something is not held any more: what waited for that can go on."""
        self._store = store
        self._nodes = store.nodes
        self._limit = limit
        self._released = released
        self._held = {holding.ino: holding for holding in self._load()}
        text = store.note(_RETURNED)
        self._returned = set[Ino]() if text is None else msgspec.json.decode(text, type=set[Ino])
        """Folders that are back, unanswered for, and changed: what they lack is still the same event."""
        self._recent: dict[Ino, tuple[float, int]] = {}
        """When (trio time) something was dropped or held, and how many nodes it was."""
        self.distrusted = False
        """No absence is believed at all. For whoever finds out that the server was set back."""

    # What others ask

    def held(self) -> list[Holding]:
        """Return what is held, oldest first; drops what is no longer here, or no longer the server's."""
        for ino in [ino for ino in self._held if not self._stands(ino)]:
            del self._held[ino]
        return sorted(self._held.values(), key=lambda holding: holding.since)

    def _stands(self, ino: Ino) -> bool:
        node = self._nodes.get(ino)
        return node is not None and node.linked and node.synced

    def covers(self, node: Node) -> bool:
        """Tell whether what is to be done about a node has to wait, as it or its folder is held.

        What was removed here need not: what is gone on the server is gone. Nor does finding out what became of a
        request. What got a name of this machine alone has to: it is to be kept here first, and all that is in it.
        """
        if not self._held or not node.linked or node.tried is not None:
            return False
        if any(ino in self._held and self._stands(ino) for ino in self._depends_on(node)):
            return True
        inside = self._held if node.local_only and node.folder and not node.placed else ()
        return any(self._stands(ino) and node.ino in self._nodes.synced_ancestors(ino) for ino in inside)

    def holds(self, ino: Ino) -> bool:
        """Tell whether a node is kept here, by itself or with a folder above it, though the server shows it no more."""
        if not self._held:
            return False
        return any(it in self._held and self._stands(it) for it in (ino, *self._nodes.synced_ancestors(ino)))

    def keeps_newer(self, node: Node) -> bool:
        """Tell whether a file that is not edited here keeps its content though a server that was set back has another.

        Of such a one nothing can be told that server: not even its new name, before somebody has said whose is right.
        """
        if not self.distrusted or node.folder or node.local_only or node.content_dirty or not node.linked:
            return False
        return node.synced and node.tried is None and self._store.is_observed(node.ino)

    def _depends_on(self, node: Node) -> set[Ino]:
        """Return what has to be on the server for a node: itself, and the folders where it is there and goes to."""
        places = {node.ino, *self._nodes.synced_ancestors(node.ino)} if node.synced else set()
        folder = self._nodes.get(node.parent) if node.parent else None
        while folder is not None and not folder.synced:
            folder = self._nodes.get(folder.parent) if folder.parent else None
        if folder is not None:
            places |= {folder.ino, *self._nodes.synced_ancestors(folder.ino)}
        return places

    def accept(self, inos: Iterable[Ino]) -> None:
        """The user knows: the next listing that lacks these is believed, also after a restart."""
        for ino in inos:
            if ino in self._held:
                self._held[ino] = msgspec.structs.replace(self._held[ino], accepted=True)
        self._save()

    def release(self, inos: Iterable[Ino], *, left: Iterable[Node] = ()) -> None:
        """These are new for the server from now on; what is `left` in them waits on by itself, unanswered.

        It was one event with them, whatever the next listing makes of its number.
        """
        gone = [holding for ino in inos if (holding := self._held.pop(ino, None)) is not None]
        since = min((holding.since for holding in gone), default=time.time())
        for node in left:
            if node.linked and node.s_parent is not None:
                count = self._nodes.count_synced_from(node.ino, _ALL)
                self._held.setdefault(node.ino, Holding(node.ino, node.s_parent, count, since))
        self._save()
        self._released()

    def found(self, ino: Ino) -> None:
        """The server shows elsewhere what it did not show any more, with all below it: it was moved."""
        self._recent.pop(ino, None)
        if ino in self._held:
            self.release([ino])

    async def sift(self, folder: Ino, changes: Sequence[Change]) -> Sequence[Change]:
        """Return the changes of a whole listing of a folder without the absences that are not believed."""
        self._save()  # what came of the listings before
        drops: list[Drop] = []
        async for some in turns(changes, _MANY):
            drops += [change for change in some if isinstance(change, Drop)]
        with self._nodes.watched() as changed:
            # What changes while it is counted changes the count of no more than that.
            counts = {drop.node.ino: await self._count(drop.node) for drop in drops if drop.node.folder}
            doubted: list[Node] = []
            for part in slices(drops, _AT_ONCE):
                doubted += [
                    it.node for it in part if not self._is_believed(it) and self._is_as_it_was(it.node)
                ]
                await trio.lowlevel.checkpoint()
            most = sum(counts.get(node.ino, 1) for node in doubted)
            known = 0
            if most + self._lately() > self._limit > 0:
                known = await self._count_known()  # whether it is more than half
            # NO CHECKPOINT from here on: what is held is decided at one moment.
            left = [it.ino for it in doubted if it.ino not in changed or self._is_as_it_was(it)]
        gone, before = {drop.node.ino for drop in drops}, set(self._held)
        back = [ino for ino, held in self._held.items() if held.folder == folder and ino not in gone]
        returned = {ino for ino in back if not self._held[ino].accepted}
        if left or back:
            for ino in back:
                del self._held[ino]
                self._recent.pop(ino, None)
            new = {ino: counts.get(ino, 1) for ino in left if ino not in self._held}
            self._hold(folder, gone, new, known)
        if not before <= self._held.keys():
            self._released()
        kept = {drop.node.ino for drop in drops if drop.node.linked and drop.node.ino in self._held}
        await self._expect(folder, changes, returned)
        return changes if not kept else await self._without(changes, kept)

    async def _expect(self, folder: Ino, changes: Sequence[Change], returned: Collection[Ino]) -> None:
        """Note the folders whose own listings have to tell how much of them came back: those that are not as before."""
        everything = folder in self._returned
        if not (everything or returned):
            return
        async for some in turns(changes, _MANY):
            other = (
                it.node for it in some if isinstance(it, Refresh) and it.node.folder and it.node.listed_at
            )
            self._returned |= {it.ino for it in other if everything or it.ino in returned}
        self._returned.discard(folder)
        self._save()

    @staticmethod
    async def _without(changes: Sequence[Change], kept: Collection[Ino]) -> list[Change]:
        left: list[Change] = []
        async for part in turns(changes, _MANY):
            left += [it for it in part if not (isinstance(it, Drop) and it.node.ino in kept)]
        return left

    def _is_as_it_was(self, node: Node) -> bool:
        """Tell whether a node can still be dropped; whether it was seen whole is no matter there (`Takeover`)."""
        current = self._nodes.get(node.ino)
        return current is not None and msgspec.structs.replace(current, listed_etag=node.listed_etag) == node

    async def _count(self, node: Node) -> int:
        """Count a folder and everything that the server is known to have below it."""
        count = 1
        with self._store.db.snapshot() as rows:
            for page in rows.synced_below(node.ino):
                count += len(page)
                await trio.lowlevel.checkpoint()
        return count

    async def _count_known(self) -> int:
        """Count what the server is known to have."""
        known = -1  # not the root
        with self._store.db.snapshot() as rows:
            for page in rows.synced():
                known += sum(page)
                await trio.lowlevel.checkpoint()
        return known

    def _hold(self, folder: Ino, gone: set[Ino], new: Mapping[Ino, int], known: int) -> None:
        """Hold these absences, each of so many nodes, if they are too much."""
        for ino in new:
            self._recent.pop(ino, None)  # counted once, however often it is found to be gone before it goes
        count = sum(new.values())
        if (count and folder in self._returned) or self._is_too_much(folder, gone, count, known):
            _log.info(
                "%d nodes that the server does not show any more are kept until somebody answers", count
            )
            now = time.time()
            self._held |= {ino: Holding(ino, folder, number, now) for ino, number in new.items()}
        self._note(new)
        self._save()

    def _is_believed(self, drop: Drop) -> bool:
        """Tell whether a node's absence needs no guard: it was accepted, or the server shows it elsewhere."""
        node = drop.node
        if not node.linked:
            return True  # removed here too
        held = self._held.get(node.ino)
        if held is not None and held.accepted:
            # Remembered (`_save`) until it is gone: the process may die before.
            del self._held[node.ino]
            return True
        others = [] if node.s_file_id is None else self._nodes.by_file_id(node.s_file_id)
        moved = any(it.ino != node.ino and it.linked and it.ino not in self._held for it in others)
        if moved:
            self._held.pop(node.ino, None)
            self._recent.pop(node.ino, None)
        return moved

    def _is_too_much(self, folder: Ino, gone: set[Ino], count: int, known: int) -> bool:
        recent, emptied = self._lately(), 0
        if folder == ROOT and count > _HANDFUL:
            there = {node.ino for node in self._nodes.synced_children(ROOT)}
            emptied = count if there <= gone else 0
        return vanishes_too_much(
            count + recent if count else 0,
            known + recent,
            limit=self._limit,
            emptied=emptied,
            distrusted=self.distrusted,
        )

    def _lately(self) -> int:
        """Count what vanished in the last minutes."""
        before = trio.current_time() - _WINDOW_S
        self._recent = {ino: noted for ino, noted in self._recent.items() if noted[0] >= before}
        return sum(number for _, number in self._recent.values())

    def _note(self, gone: Mapping[Ino, int]) -> None:
        now = trio.current_time()
        for ino, count in gone.items():
            key = ino if len(self._recent) < _MOST_NOTED else _OTHERS
            _, before = self._recent.pop(key, (0.0, 0))
            self._recent[key] = now, before + count

    # Across restarts

    def _load(self) -> list[Holding]:
        text = self._store.note(_KEY)
        return [] if text is None else msgspec.json.decode(text, type=list[Holding])

    def _save(self) -> None:
        self._note_down(_RETURNED, sorted(self._returned))
        if self._note_down(_KEY, list(self._held.values())):
            reached("absence held")

    def _note_down(self, key: str, items: Sequence[object]) -> bool:
        """Keep items across restarts; tell whether they are other ones than before."""
        text = msgspec.json.encode(items).decode() if items else None
        if text == self._store.note(key):
            return False
        self._store.put_note(key, text)
        return True
