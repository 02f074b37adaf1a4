"""Keeps the deletion of much at once from the server until a person has said that it is meant.

Here → server: a slip of `rm -r`, or a program that tidies up the wrong folder, is worth a question as long as the
server still has everything. Deletions are counted when they are planned; those of the last minutes count too, as a
long `rm -r` arrives in pieces.
"""

from __future__ import annotations

import contextlib
import logging
import time

import msgspec
import trio

from cloudfs.concurrency.killpoints import reached
from cloudfs.errors import PosixError
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.troubles import Trouble
from cloudfs.types import Ino

__all__ = ["Restraint", "removes_too_much"]

_log = logging.getLogger(__name__)

_WINDOW_S = 600.0
_FEW = 100
_KEY = "removals"
_ALL = 1 << 60
_BEFORE = Ino(0)
"""Stands for what an earlier life sent."""


def removes_too_much(count: int, known: int | None, *, limit: int, distrusted: bool = False) -> bool:
    """Tell whether so many deletions have to wait for a person's word. Pure.

    `count`: planned and lately sent; `known`: what the server had before, None where that was never seen in full: then
    nothing is half of it; `limit`: the user's setting, 0 for none;
    `distrusted`: the server is known to have been set back (oc:data-fingerprint), so that nothing is deleted there.
    """
    if count <= 0:
        return False
    if distrusted:
        return True
    is_most = known is not None and count > _FEW and 2 * count > known
    return limit > 0 and (count > limit or is_most)


_TROUBLE = Trouble(
    ino=Ino(0),
    name="deletions",
    reason="so much was deleted here at once that it stays on the server until you say that it is meant",
    next_step="`cloudfs deletions accept` deletes it there too, `cloudfs deletions restore` brings it back",
    tries=0,
    due=0.0,
    blocked=True,
)


class _Word(msgspec.Struct, frozen=True):
    """What has to survive a restart."""

    held_since: float | None = None
    """Unix s; None: nothing is held."""
    sent: int = 0
    """How much was removed on the server in the last minutes of a life, whose clock the next one does not know."""


class Restraint:
    """Whether the worker may delete. Once held, everything deleted since waits until `allow`, or is brought back."""

    def __init__(self, store: Store, *, limit: int) -> None:
        self._store = store
        self._nodes = store.nodes
        self._limit = limit
        text = store.note(_KEY)
        self._word = _Word() if text is None else msgspec.json.decode(text, type=_Word)
        self._sent: dict[Ino, tuple[float, int]] = {}
        """When the removal of a node was last started, the latest last, and of how much."""
        self._done = set[Ino]()
        """Those of them that succeeded; `_Word.sent` adds them up."""
        if self._word.sent:
            # However long ago that was, it counts as of now: to ask once too often does no harm.
            self._sent[_BEFORE] = trio.current_time(), self._word.sent
            self._done.add(_BEFORE)
        self.distrusted = False
        """Nothing is deleted at all. For whoever finds out that the server was set back."""

    # For the worker

    def review(self) -> None:
        """Look at what is planned; to be called before deletions are started."""
        if self._word.held_since is not None:
            if not self._nodes.is_leaving():
                self._remember(msgspec.structs.replace(self._word, held_since=None))
            return
        sent, planned = self._lately_sent(), self._count(self._enough)
        if sent + planned > min(_FEW, self._limit):
            # What has to be tried again is planned, too.
            again = self._nodes.are_leaving(self._sent)
            sent -= sum(self._sent[ino][1] for ino in again)
        count = sent + planned
        few = not self.distrusted and count <= min(_FEW, self._limit)
        known = None
        if not few and self._nodes.is_all_listed():
            known = self._nodes.count_synced(2 * count) + sent
        if removes_too_much(count, known, limit=self._limit, distrusted=self.distrusted):
            _log.info("%d deletions, or more, wait to be confirmed", count)
            self._remember(msgspec.structs.replace(self._word, held_since=time.time()))
            reached("deletions held")

    @property
    def _enough(self) -> int:
        """More need not be counted: as many are too much, or no number is. Counting takes 2 µs each."""
        return max(self._limit, _FEW) + 1

    def holds(self, node: Node) -> bool:
        """Tell whether a node's removal from the server has to wait."""
        return self._word.held_since is not None and not node.meant

    def sending(self, node: Node) -> None:
        """A node's removal is started."""
        if not node.meant:
            self._forget(node.ino)
            count = self._nodes.count_synced_from(node.ino, self._enough)
            self._sent[node.ino] = trio.current_time(), count

    def sent(self, node: Node) -> None:
        """A node's removal has succeeded. What cannot be noted on a full disk counts in this life alone."""
        if node.ino in self._sent and node.ino not in self._done:
            self._done.add(node.ino)
            with contextlib.suppress(PosixError):
                self._note_sent(self._word.sent + self._sent[node.ino][1])

    def expire(self) -> None:
        """Forget what was sent longer ago; to be called now and then, or the next life counts it."""
        self._lately_sent()
        with contextlib.suppress(PosixError):
            self._note_sent(sum(self._sent[ino][1] for ino in self._done))

    def _note_sent(self, count: int) -> None:
        if count != self._word.sent:
            self._remember(msgspec.structs.replace(self._word, sent=count))

    def _lately_sent(self) -> int:
        before = trio.current_time() - _WINDOW_S
        while self._sent and (oldest := next(iter(self._sent.items())))[1][0] < before:
            self._forget(oldest[0])
        return sum(count for _, count in self._sent.values())

    def _forget(self, ino: Ino) -> None:
        self._sent.pop(ino, None)
        self._done.discard(ino)

    def trouble(self, node: Node) -> Trouble | None:
        """Return why a node waits: its removal is held, or that of what has its name; None where it does not.

        It is the same for all that do.
        """
        if self._word.held_since is None:
            return None
        return _TROUBLE if self._is_leaving(node) or self._waits_for_name(node) else None

    def _is_leaving(self, node: Node) -> bool:
        return node.synced and (bool(node.local_only) or (node.tombstone and self.holds(node)))

    def _waits_for_name(self, node: Node) -> bool:
        """Tell whether a held removal has yet to free the name of a node, or of a folder above it."""
        for ino in (node.ino, *self._nodes.ancestors(node.ino)):
            above = self._nodes.get(ino)
            if above is None or not above.parent or above.placed:
                continue
            owner = self._nodes.synced_child(above.parent, above.name)
            if owner is not None and owner.ino != ino and self._is_leaving(owner):
                return True
        return False

    # For the user's answer

    @property
    def held_since(self) -> float | None:
        """Unix s; None: nothing waits."""
        return self._word.held_since

    def count(self) -> int:
        """Count files and folders whose deletion was not answered for, whether it is held or not."""
        return self._count(_ALL)

    def _count(self, most: int) -> int:
        """The same, but counted up to so many only."""
        count = self._nodes.count_removed(most)
        for node in self._nodes.taken_off():
            # What went to a local-only place (a trash) takes along what is in it.
            if count < most:
                count += self._nodes.count_synced_from(node.ino, most - count)
        return count

    def leaving(self, most: int = _ALL) -> list[Node]:
        """Return the nodes whose removal was not answered for; what goes along with a folder taken away is left out."""
        return self._nodes.leaving(most)

    def allow(self) -> list[Ino]:
        """All that was deleted until now is meant: return what can go."""
        with self._store.transaction():
            inos = self._nodes.mean_leaving()
            self._remember(_Word())
        reached("deletions accepted")
        self._sent.clear()
        self._done.clear()
        return inos

    def _remember(self, word: _Word) -> None:
        self._word = word
        self._store.put_note(_KEY, msgspec.json.encode(word).decode())
