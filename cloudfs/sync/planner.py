"""Nodes whose local and synced views differ become steps for the server. Pure.

Because states are compared and not operations replayed, what cancels out is never sent: create + delete is
nothing, many writes are one upload, write-temp + rename-over is one upload onto the old file id, and a
removed tree is one DELETE of its top. A crash needs no repair here: the plan is simply made again.

Order, as `after`:
- a node is created or moved only into a folder that the server has;
- a name is given to a node only when its present owner on the server has left it;
- a node moves only after the moved folders above it, which keeps every MOVE free of cycles between folders;
- a folder is removed only after what leaves it;
- a folder's time is set after everything inside it, which would change it again;
- where the reply to an earlier request was lost, its outcome is found out before anything else is done there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import msgspec

from cloudfs.store.records import Node
from cloudfs.sync.saving import was_temporary
from cloudfs.sync.steps import FindOut, MakeFolder, Move, MoveAside, Remove, SetTime, Step, Upload
from cloudfs.types import ROOT, Ino

__all__ = ["Planner", "View", "plan", "runnable"]


class View(Protocol):
    """What the planner may look up: a consistent snapshot of the nodes."""

    def get(self, ino: Ino) -> Node | None:
        """Return a node."""
        ...

    def child(self, parent: Ino, name: str) -> Node | None:
        """Return what the mount shows under a name."""
        ...

    def synced_child(self, parent: Ino, name: str) -> Node | None:
        """Return what the server has under a name."""
        ...

    def has_moved(self, parent: Ino) -> bool:
        """Tell whether the server has anything in a folder that the mount shows elsewhere, or no more."""
        ...

    def tried(self) -> list[Node]:
        """Return the nodes that requests put somewhere on the server whose outcome is not known (yet)."""
        ...

    def busy_folders(self) -> set[Ino]:
        """Return the folders with work for the server below them, in the mount or on the server."""
        ...

    def left_folders(self) -> set[Ino]:
        """Return the folders that something shown elsewhere has yet to leave on the server."""
        ...

    def synced_ancestors(self, ino: Ino) -> list[Ino]:
        """Return the folders above a node on the server, nearest first."""
        ...

    def ancestors(self, ino: Ino) -> list[Ino]:
        """Return the folders above a node in the mount, nearest first."""
        ...


def plan(dirty: Sequence[Node], view: View, *, whole: bool = True) -> list[Step]:
    """Return the steps that make the server agree with the mount, each with what has to be done before it.

    `dirty`: every node with work for the server. A node has at most one step in a plan; what remains to be
    done for it shows in the next plan.

    Not `whole`: only some of them. What is runnable then is so in the plan of all; a step that has to wait for a
    node outside waits for itself. Nodes of different parts that wait for each other are parted by `rings`.
    """
    return (Planner(dirty, view) if whole else _PartPlanner(dirty, view)).steps()


class Planner:
    """Plans for nodes that know of no others with work for the server: see `plan`, and `rings` for very many."""

    def __init__(self, dirty: Sequence[Node], view: View) -> None:
        self._dirty = {node.ino: node for node in dirty}
        self._view = view
        self._chains: dict[tuple[Ino, bool], tuple[Ino, ...]] = {}
        self._folders: dict[Ino, Node | None] = {}
        self._moved_chains: dict[Ino, frozenset[Ino]] = {}
        self._has_moved: dict[Ino, bool] = {}
        self._unmapped = dict(self._dirty)
        self._lies_below: dict[Ino, set[Ino]] = {}
        self._must_leave: dict[Ino, set[Ino]] = {}

    def steps(self) -> list[Step]:
        """Return the plan."""
        return self._break_cycles(self.steps_of(self._dirty.values()))

    # A plan in slices: add all nodes, map them, plan them

    def add(self, dirty: Iterable[Node]) -> None:
        """Reckon with these, too."""
        for node in dirty:
            self._dirty[node.ino] = self._unmapped[node.ino] = node

    def nodes(self) -> list[Node]:
        """Return all that was added."""
        return list(self._dirty.values())

    def node(self, ino: Ino) -> Node:
        """Return one of them as it was added."""
        return self._dirty[ino]

    def map_below(self, dirty: Iterable[Node]) -> None:
        """Note for every folder which of these lie below it, here or there, and which have to leave it there."""
        for node in dirty:
            self._unmapped.pop(node.ino, None)
            there = self._above(node.s_parent, synced=True)
            for folder in (*self._above(node.parent, synced=False), *there):
                self._lies_below.setdefault(folder, set()).add(node.ino)
            if there and (leaver := self._leaver(node)) is not None:
                for folder in there:
                    self._must_leave.setdefault(folder, set()).add(leaver)

    def steps_of(self, dirty: Iterable[Node]) -> list[Step]:
        """Return the steps of some of the nodes, each with what it waits for, be that for each other."""
        steps = map(self._step, dirty)
        return [self._without_doubt(step) for step in steps if step is not None]

    def _step(self, node: Node) -> Step | None:
        if node.to_be_found:
            return FindOut(node=node)
        if _leaves(node):
            return self._leave(node)
        if node.parent is None:
            return None
        if not node.synced:
            return self._create(node)
        if not node.placed:
            return self._move(node)
        if node.content_dirty:
            return Upload(node=node)
        return SetTime(node=node, after=self._busy_below(node))

    # What is in doubt

    def _without_doubt(self, step: Step) -> Step:
        """Have a step wait until the outcome of every other request about its places and its paths is known."""
        if not self._in_doubt:
            return step
        node = step.node
        places = {(node.parent, node.name), (node.s_parent, node.s_name), (node.t_parent, node.t_name)}
        waits = {involved.ino for involved in step.involved if involved.to_be_found}
        if isinstance(step, FindOut):
            # A look is in nobody's way; two may have tried what the other one is to get.
            places.remove((node.parent, node.name))
        else:
            waits |= {self._in_doubt[place] for place in places if place in self._in_doubt}
        for parent, _ in places:
            above = self._above(parent, synced=True)
            waits |= {ino for ino in self._in_doubt.values() if ino in above}
        if isinstance(step, Remove) and node.folder:
            waits |= self._in_doubt_below(node.ino)
        waits.discard(node.ino)
        return msgspec.structs.replace(step, after=step.after | waits) if waits else step

    def _in_doubt_below(self, folder: Ino) -> set[Ino]:
        """Return the nodes that a request of unknown outcome may have put into a folder, or taken out of it."""
        return {
            node.ino
            for node in self._view.tried()
            for parent in (node.t_parent, node.s_parent)
            if folder in self._above(parent, synced=True)
        }

    @cached_property
    def _in_doubt(self) -> dict[tuple[Ino | None, str | None], Ino]:
        """Map the places that were tried to the nodes."""
        return {node.tried: node.ino for node in self._view.tried() if node.tried is not None}

    # What leaves the server

    def _leave(self, node: Node) -> Step | None:
        if self._goes_along(node):
            return None
        if self._successor(node) is not None:
            return None  # its place and identity go over to the successor
        return Remove(node=node, after=self._inside(node) if node.folder else frozenset())

    def _goes_along(self, node: Node) -> bool:
        """Tell whether a node that leaves needs no step of its own: its folder's removal takes it along.

        What the mount still shows is kept here before it leaves the server, by the removal of the folder that it is
        shown in: it goes along with that one only, and by a step of its own out of any other.
        """
        if node.s_parent is None or (node.linked and node.parent != node.s_parent):
            return False
        folder = self._folder(node.s_parent)
        return folder is not None and _leaves(folder)

    def _successor(self, node: Node) -> Node | None:
        """Return the file that took the place of a file that leaves."""
        if node.folder or node.s_parent is None or node.s_name is None:
            return None
        taker = self._view.child(node.s_parent, node.s_name)
        if taker is None or taker.folder or taker.local_only or taker.ino == node.ino:
            return None
        return taker if not taker.synced or taker.content_dirty or was_temporary(taker, node) else None

    def _inside(self, folder: Node) -> frozenset[Ino]:
        """Return whose steps must take something out of a folder on the server before it is removed.

        Not what goes along with a folder that is taken out: its own step may wait for the removal (SetTime).
        """
        self._map_all()
        return frozenset(self._must_leave.get(folder.ino, ()))

    def _leaver(self, node: Node) -> Ino | None:
        """Return whose step takes a node out of the folders that it is in on the server, None where it stays there."""
        if not _leaves(node):
            return node.ino if node.synced and not node.placed else None
        if (taker := self._successor(node)) is not None:
            return taker.ino
        return node.ino if node.linked and not self._goes_along(node) else None

    # What comes to the server, or changes its place there

    def _create(self, node: Node) -> Step:
        assert node.parent is not None  # noqa: S101  # _step has looked
        after = self._parent_first(node.parent)
        if node.folder:
            return MakeFolder(node=node, after=after | self._vacated(node))
        occupant = self._occupant(node)
        if occupant is not None and _leaves(occupant) and not occupant.folder:
            return Upload(node=node, onto=occupant, after=after)
        return Upload(node=node, after=after | self._vacated(node))

    def _move(self, node: Node) -> Step:
        assert node.parent is not None  # noqa: S101  # _step has looked
        after = self._parent_first(node.parent) | self._moved_above(node)
        occupant = self._occupant(node)
        if occupant is not None and _leaves(occupant) and self._successor(occupant) == node:
            return Upload(node=node, onto=occupant, after=after)
        return Move(node=node, after=after | self._vacated(node))

    def _parent_first(self, parent: Ino) -> frozenset[Ino]:
        above = self._folder(parent)
        return frozenset() if above is None or above.synced else frozenset({parent})

    def _moved_above(self, node: Node) -> frozenset[Ino]:
        if not node.parent:
            return frozenset()
        known = self._moved_chains.get(node.parent)
        if known is None:
            above = (self._folder(ino) for ino in self._above(node.parent, synced=False))
            known = frozenset(it.ino for it in above if it is not None and it.dirty and not it.placed)
            self._moved_chains[node.parent] = known
        return known

    def _vacated(self, node: Node) -> frozenset[Ino]:
        """Return who has the node's name on the server now and has to leave it first."""
        occupant = self._occupant(node)
        return frozenset() if occupant is None else frozenset({occupant.ino})

    def _occupant(self, node: Node) -> Node | None:
        """Return another node that has the node's name on the server: one that was moved, the name being taken here."""
        assert node.parent is not None  # noqa: S101  # asked for linked nodes only
        moved = self._has_moved.get(node.parent)
        if moved is None:
            moved = self._has_moved[node.parent] = self._view.has_moved(node.parent)
        occupant = self._view.synced_child(node.parent, node.name) if moved else None
        return None if occupant is None or occupant.ino == node.ino else occupant

    def _busy_below(self, folder: Node) -> frozenset[Ino]:
        if not folder.folder:
            return frozenset()
        self._map_all()
        return frozenset(self._lies_below.get(folder.ino, ()))

    # Ancestry, asked for once per folder and plan

    def _folder(self, ino: Ino) -> Node | None:
        if ino not in self._folders:
            self._folders[ino] = self._dirty.get(ino) or self._view.get(ino)
        return self._folders[ino]

    def _map_all(self) -> None:
        if self._unmapped:
            self.map_below(list(self._unmapped.values()))

    def _above(self, parent: Ino | None, *, synced: bool) -> tuple[Ino, ...]:
        """Return a folder and all above it, nearest first."""
        if not parent:
            return ()
        known = self._chains.get((parent, synced))
        if known is None:
            above = self._view.synced_ancestors(parent) if synced else self._view.ancestors(parent)
            known = self._chains[parent, synced] = (parent, *above)
        return known

    # Steps that wait for each other

    def _break_cycles(self, planned: list[Step]) -> list[Step]:
        """Turn one step of every cycle into a move aside; the next plan finds the name free.

        Everything that a step waits for lies above it in the mount or inside it on the server, except the present
        owner of its name: so every cycle has such an owner, and moving that one aside needs nobody.
        """
        by_ino = {step.node.ino: step for step in planned}
        waits = {ino: set(step.after & by_ino.keys()) for ino, step in by_ino.items()}
        waited_for: dict[Ino, list[Ino]] = {}
        for ino, others in waits.items():
            for other in others:
                waited_for.setdefault(other, []).append(ino)
        free = [ino for ino, others in waits.items() if not others]
        while True:
            while free:
                ino = free.pop()
                waits.pop(ino, None)
                for waiting in waited_for.get(ino, ()):
                    if waiting in waits:
                        waits[waiting].discard(ino)
                        free += [] if waits[waiting] else [waiting]
            if not waits:
                return list(by_ino.values())
            cycle = _cycle(waits)
            owner = self.owner(cycle, by_ino)
            if owner is None:
                # Against the rule above: they go on waiting. That loses nothing, a removal that comes too early might.
                free += cycle
            else:
                by_ino[owner] = MoveAside(node=by_ino[owner].node)
                free.append(owner)

    def owner(self, cycle: Mapping[Ino, Ino], by_ino: Mapping[Ino, Step]) -> Ino | None:
        """Return a node of a cycle whose name on the server the one before it waits for."""
        for ino, waited_for in cycle.items():
            step = by_ino[ino]
            if isinstance(step, _NAMING) and waited_for in self._vacated(step.node):
                return waited_for
        return None


class _PartPlanner(Planner):
    """Plans for some of the dirty nodes, and holds back what may have to wait for the others."""

    def steps(self) -> list[Step]:
        return [
            msgspec.structs.replace(step, after=step.after | {step.node.ino}) if self._held(step) else step
            for step in super().steps()
        ]

    def _held(self, step: Step) -> bool:
        if step.node.folder and isinstance(step, Remove) and step.node.ino in self._left:
            return True
        if step.node.folder and isinstance(step, SetTime) and step.node.ino in self._busy:
            return True
        return any(self._is_dirty_outside(ino) for ino in step.after)

    def _is_dirty_outside(self, ino: Ino) -> bool:
        if ino in self._dirty:
            return False
        node = self._folders.get(ino) or self._view.get(ino)
        return node is not None and bool(node.dirty)

    @cached_property
    def _left(self) -> set[Ino]:
        return self._view.left_folders()

    @cached_property
    def _busy(self) -> set[Ino]:
        return self._view.busy_folders()


def _cycle(waits: dict[Ino, set[Ino]]) -> dict[Ino, Ino]:
    """Return nodes that wait for each other, each with the next one; everybody in `waits` waits for somebody in it."""
    trail: dict[Ino, Ino] = {}
    ino = min(waits)
    while ino not in trail:
        trail[ino] = min(waits[ino])
        ino = trail[ino]
    first, cycle = ino, {ino: trail[ino]}
    while (ino := trail[ino]) != first:
        cycle[ino] = trail[ino]
    return cycle


_NAMING = MakeFolder | Upload | Move
"""Steps that need a name."""


def _leaves(node: Node) -> bool:
    return node.synced and node.ino != ROOT and (node.parent is None or bool(node.local_only))


def runnable(planned: Iterable[Step]) -> list[Step]:
    """Return the steps that wait for no other step of the plan."""
    steps = list(planned)
    open_inos = {step.node.ino for step in steps}
    return [step for step in steps if not step.after & open_inos]
