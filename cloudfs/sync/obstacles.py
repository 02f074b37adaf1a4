"""Why changes cannot go up: what they wait for, and who has to do something about it."""

from __future__ import annotations

import trio

from cloudfs.content.baseless import baseless
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.spreading import Spreading
from cloudfs.store.records import Node
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.pausing import Pause
from cloudfs.sync.planner import plan
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.steps import Remove, Step
from cloudfs.sync.troubles import Trouble, Troubles, cannot_be_read, kept_newer, withheld
from cloudfs.types import Ino

__all__ = ["Obstacles"]

_MUCH = 128
"""So many nodes are not planned for only to tell what waits for what: 10 ms."""


class Obstacles:
    """One account's. Whoever carries out a removal has to look for its readers once."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        connectivity: Connectivity,
        troubles: Troubles,
        *,
        restraint: Restraint,
        guard: VanishGuard,
        spreading: Spreading,
        pause: Pause,
    ) -> None:
        self._store = store
        self._nodes = store.nodes
        self._pause = pause
        self._residents = residents
        self._connectivity = connectivity
        self._troubles = troubles
        self._restraint = restraint
        self._guard = guard
        self._spreading = spreading
        self._readers: dict[Ino, set[Ino]] = {}
        """Files found open in a folder that is to be removed."""

    # A person

    def is_paused(self) -> bool:
        """Tell whether sending is to rest."""
        return self._pause.sending.is_on

    def is_held(self, step: Step) -> bool:
        """Tell whether a person's word is missing, or it is not marked yet what stays on this machine."""
        if self._spreading.pending or self._guard.covers(step.node) or self._guard.keeps_newer(step.node):
            return True
        return isinstance(step, Remove) and self._restraint.holds(step.node)

    def all_blocked(self) -> list[Trouble]:
        """Return every trouble that needs somebody to act, of those that are about one node each."""
        blocked = {trouble.ino: trouble for trouble in map(cannot_be_read, baseless(self._store))}
        blocked |= {trouble.ino: trouble for trouble in self._troubles.all_blocked()}
        if self._guard.held() or self._guard.distrusted:
            found = (self._withheld(node) for node in self._nodes.dirty())
            blocked |= {trouble.ino: trouble for trouble in found if trouble is not None}
        return list(blocked.values())

    def blocked(self, node: Node) -> Trouble | None:
        """Return why a node cannot go up before somebody acts."""
        if self._connectivity.state is State.NEEDS_LOGIN:
            return self._troubles.needs_login(node, self._connectivity.reason)
        return (
            self._withheld(node)
            or self._restraint.trouble(node)
            or self._troubles.blocked(node.ino)
            or self._blocked_successor(node)
            or self._blocked_above(node)
        )

    def _withheld(self, node: Node) -> Trouble | None:
        if self._guard.keeps_newer(node):
            return kept_newer(node)
        return withheld(node) if self._guard.covers(node) else None

    def _blocked_successor(self, node: Node) -> Trouble | None:
        """Return the trouble of the file that takes the place of a removed one, which has no step of its own then."""
        if not node.tombstone or node.s_parent is None or node.s_name is None:
            return None
        successor = self._nodes.child(node.s_parent, node.s_name)
        return None if successor is None or not successor.dirty else self._troubles.blocked(successor.ino)

    def _blocked_above(self, node: Node) -> Trouble | None:
        """Return the trouble of the folder whose removal takes a node along, which has no step of its own then."""
        if not _leaves(node) or node.s_parent is None or (node.linked and node.parent != node.s_parent):
            return None
        above = self._nodes.get(node.s_parent)
        return None if above is None or not _leaves(above) else self.blocked(above)

    # A program

    def is_read(self, node: Node) -> bool:
        """Tell whether a program has a node, or what was found to go with it, still open."""
        going = {node.ino, *self._readers.get(node.ino, ())}
        return any(self._residents.is_open(ino) for ino in going)

    async def find_readers(self, folder: Node) -> bool:
        """Look once for what is open in an unlinked folder. Unlinked itself, nothing in it is opened anew."""
        found: set[Ino] = set()
        with self._store.db.snapshot() as rows:
            for page in rows.synced_below(folder.ino):
                found.update(ino for ino, is_folder in page if not is_folder and self._residents.is_open(ino))
                await trio.lowlevel.checkpoint()
        if found:
            self._readers[folder.ino] = found
        else:
            self._readers.pop(folder.ino, None)
        return bool(found)

    def waits_for_program(self, node: Node) -> bool:
        """Tell whether a node was removed, and it, or a folder that it goes along with, is still held open."""
        if not node.tombstone:
            return False
        going = (node, *map(self._nodes.get, self._nodes.synced_ancestors(node.ino)))
        return any(it is not None and it.tombstone and self.is_read(it) for it in going)

    # Either, at whatever remove

    def waiting(self) -> set[Ino]:
        """Return what waits, however far, for a program or for what is blocked; nothing where there is much to do."""
        dirty = self._nodes.dirty_after(Ino(0), _MUCH)
        if len(dirty) == _MUCH:
            return set()
        waiting = {node.ino for node in dirty if self._waits_for_somebody(node)}
        if not waiting:
            return set()
        steps = plan(dirty, self._nodes)
        found = -1
        while found != len(waiting):
            found = len(waiting)
            waiting |= {step.node.ino for step in steps if step.after & waiting}
        return waiting

    def _waits_for_somebody(self, node: Node) -> bool:
        return self.waits_for_program(node) or self.blocked(node) is not None


def _leaves(node: Node) -> bool:
    return node.synced and (not node.linked or bool(node.local_only))
