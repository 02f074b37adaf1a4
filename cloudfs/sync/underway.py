"""The steps under way, and which others they keep from beginning.

Two steps never run on one node, and a step that moves or removes a folder runs while no other one works below that
folder, because it changes the server's paths of everything in it. Whoever works on a node outside of steps has it
reserved, and counts as one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.steps import Step
from cloudfs.types import Ino

__all__ = ["Underway"]


class Underway:
    """Of one worker. NO CHECKPOINT anywhere here.

    Where the steps are is looked up once a round: a hundred may be under way, and as many folders wait to be moved.
    `root_of` names the storage that a node lies in.
    """

    def __init__(self, nodes: Nodes, root_of: Callable[[Node], Ino]) -> None:
        self._nodes = nodes
        self._root_of = root_of
        self._steps: dict[Ino, Step] = {}
        self._reserved: set[Ino] = set()
        self._involved: set[Ino] = set()
        self._moving: set[Ino] = set()
        """Nodes whose steps change paths."""
        self._above: set[Ino] | None = None
        """What lies above the nodes of the steps, here and on the server; None: not looked up in this round."""
        self._roots: set[Ino] | None = None

    def __contains__(self, ino: Ino) -> bool:
        return ino in self._involved

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps.values())

    def __len__(self) -> int:
        return len(self._steps)

    def reserve(self, inos: Collection[Ino]) -> bool:
        """Have no further step begin on nodes, nor on folders above; False where one is reserved already."""
        if not self._reserved.isdisjoint(inos):
            return False
        self._reserved.update(inos)
        self.look_again()
        return True

    def free(self, inos: Iterable[Ino]) -> None:
        """They are not reserved any more."""
        self._reserved.difference_update(inos)
        self.look_again()

    def works_on(self, inos: Collection[Ino]) -> bool:
        """Tell whether a step is under way on one of the nodes, or moves or removes a folder above it."""
        return not (self._involved.isdisjoint(inos) and self._moving.isdisjoint(self._above_all(inos)))

    def begin(self, steps: Iterable[Step]) -> None:
        """Steps are carried out from now on."""
        self._steps.update({step.node.ino: step for step in steps})
        self._count()

    def end(self, steps: Iterable[Step]) -> None:
        """They no longer are."""
        for step in steps:
            del self._steps[step.node.ino]
        self._count()

    def _count(self) -> None:
        self._involved = {node.ino for step in self for node in step.involved}
        self._moving = {step.node.ino for step in self if step.structural}
        self.look_again()

    def look_again(self) -> None:
        """A new round: the nodes may lie elsewhere by now."""
        self._above = self._roots = None

    def is_in_the_way_of(self, step: Step) -> bool:
        """Tell whether a step must not begin yet."""
        if any(node.ino in self._involved or node.ino in self._reserved for node in step.involved):
            return True
        if step.structural and step.node.ino in self._all_above():
            return True
        return bool(self._moving) and not self._moving.isdisjoint(self._above_step(step))

    def roots(self) -> set[Ino]:
        """Return the storages in which something is under way."""
        if self._roots is None:
            self._roots = {self._root_of(step.node) for step in self}
        return self._roots

    def _all_above(self) -> set[Ino]:
        if self._above is None:
            self._above = self._above_all(self._reserved).union(*map(self._above_step, self))
        return self._above

    def _above_step(self, step: Step) -> set[Ino]:
        above = self._above_all(node.ino for node in step.involved)
        for folder in (node.t_parent for node in step.involved if node.t_parent):
            above.update((folder,), self._nodes.synced_ancestors(folder))
        return above

    def _above_all(self, inos: Iterable[Ino]) -> set[Ino]:
        above: set[Ino] = set()
        for ino in inos:
            above.update(self._nodes.synced_ancestors(ino), self._nodes.ancestors(ino))
        return above
