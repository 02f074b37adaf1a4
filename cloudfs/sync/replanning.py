"""Whether steps that were found a while ago would still be planned: the nodes around them may have changed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.planner import plan, runnable
from cloudfs.sync.steps import MoveAside, Step

__all__ = ["is_still_right", "still_right"]

_MOST_OTHERS = 128
"""So many that others wait for are planned with them."""


def is_still_right(nodes: Nodes, step: Step) -> bool:
    """Plan again for a step's node alone, and tell whether it comes to the same. NO CHECKPOINT."""
    node = nodes.get(step.node.ino)
    if node is None or not node.dirty:
        return False
    again = runnable(plan([node], nodes, whole=False))
    return [_sort(it) for it in again] == [_sort(step)]


def still_right(nodes: Nodes, found: Sequence[Step], is_current: Callable[[Step], bool]) -> list[Step]:
    """Return those of the steps found in turns that may be carried out as things are by now. NO CHECKPOINT.

    `is_current`: whether the nodes are still exactly those that a step was planned from.
    """
    # What one was found to wait for has no step of its own, which only shows where it is planned for together.
    others = islice((ino for step in found for ino in step.after), _MOST_OTHERS)
    wanted = dict.fromkeys([*(step.node.ino for step in found), *others])
    known = (nodes.get(ino) for ino in wanted)
    dirty = [node for node in known if node is not None and node.dirty]
    again = {_sort(it) for it in runnable(plan(dirty, nodes, whole=False))}
    return [
        step for step in found if _sort(step) in again or (isinstance(step, MoveAside) and is_current(step))
    ]


def _sort(step: Step) -> tuple[type[Step], tuple[Node, ...]]:
    return type(step), step.involved
