"""Steps that wait for each other, found in a backlog that is planned in parts.

Where a pass over the parts finds nothing to begin, what is held back may wait for a node of another part that waits for
it in turn: names that change places, folders that go into each other. Nobody waits for any other file but the removal
of its folder, so the folders and what is moved are enough. All of them are gone through, with a checkpoint every few
milliseconds: a plan of a hundred thousand in one piece took seconds, in which no program got an answer.

What is read meanwhile is not of one moment, so nothing that comes of it may be begun before it was planned once more
(`replanning`). A move aside that nobody waits for any more costs two requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

import trio

from cloudfs.concurrency.slices import turns
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.planner import Planner
from cloudfs.sync.steps import MoveAside, Step
from cloudfs.types import Ino

__all__ = ["MOST_STEPS", "part_rings"]

MOST_STEPS = 64
"""So many of each kind are given at once: each is planned once more, 0.1 ms."""
_PART = 64
"""Nodes planned between two checkpoints: some milliseconds."""
_LOOKED_AT = 1000
"""Steps looked at between two checkpoints: 1 ms."""


async def part_rings(nodes: Nodes, may_begin: Callable[[Step], bool]) -> list[Step]:
    """Return steps that wait for nobody and `may_begin`, and steps that part rings of others, some of each."""
    planner = Planner([], nodes)
    async for page in _waiting(nodes):
        planner.add(page)
    async for part in turns(planner.nodes(), _PART):
        planner.map_below(part)
    # Of a hundred thousand steps no more is kept than whom they wait for: numbers, which Python's garbage collector
    # passes over. Else it takes 60 ms, again and again.
    waits: dict[Ino, tuple[Ino, ...]] = {}
    async for part in turns(planner.nodes(), _PART):
        waits |= {step.node.ino: tuple(step.after) for step in planner.steps_of(part)}
    free: list[Ino] = []
    async for some in turns(waits.items(), _LOOKED_AT):
        free += [ino for ino, others in some if not any(other in waits for other in others)]
    steps: list[Step] = []
    async for chosen in turns(free, _PART):
        if len(steps) < MOST_STEPS:
            steps += [step for step in planner.steps_of(map(planner.node, chosen)) if may_begin(step)]
    return steps[:MOST_STEPS] + [step async for step in _parting(planner, waits)]


async def _waiting(nodes: Nodes) -> AsyncIterator[list[Node]]:
    """Give the nodes that others may wait for: folders, and files to be moved on the server."""
    last = Ino(0)
    while page := nodes.dirty_after(last, _PART):
        yield [it for it in page if it.folder or (it.linked and it.synced and not it.placed)]
        last = page[-1].ino
        await trio.lowlevel.checkpoint()


async def _parting(planner: Planner, waits: Mapping[Ino, Sequence[Ino]]) -> AsyncIterator[Step]:
    """Give a step for each ring: it moves somebody aside whose name the one before waits for."""
    found = 0
    for number, ring in enumerate(_rings(waits)):
        if number % _LOOKED_AT == 0:
            await trio.lowlevel.checkpoint()
        owner = None if ring is None else _owner(planner, ring)
        if owner is not None:
            yield MoveAside(node=planner.node(owner))
            found += 1
        if found == MOST_STEPS:
            return


def _owner(planner: Planner, ring: Mapping[Ino, Ino]) -> Ino | None:
    steps = planner.steps_of(map(planner.node, ring))
    return planner.owner(ring, {step.node.ino: step for step in steps})


def _rings(waits: Mapping[Ino, Sequence[Ino]]) -> Iterator[dict[Ino, Ino] | None]:
    """Give rings of nodes that wait for each other, each with the next one, and None for each look without one."""
    done: set[Ino] = set()
    for first in waits:
        trail: dict[Ino, Iterator[Ino]] = {} if first in done else {first: iter(waits[first])}
        while trail:
            ino = next(reversed(trail))
            other = next(trail[ino], None)
            if other is None:
                del trail[ino]
                done.add(ino)
            elif other in trail:
                way = [*trail]
                way = way[way.index(other) :]
                yield dict(zip(way, [*way[1:], other], strict=True))
            elif other in waits and other not in done:
                trail[other] = iter(waits[other])
            yield None
