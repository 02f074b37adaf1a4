"""The way of a change from here: who brings it to the server, and what a person can say to it."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.engine.ground import Ground
from cloudfs.engine.guarding import Guards
from cloudfs.engine.hands import make_hands
from cloudfs.engine.reading import Reading
from cloudfs.engine.server import Server
from cloudfs.engine.tree import Shown
from cloudfs.sync.deletions import Deletions
from cloudfs.sync.execute import Executor
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.resolve import Resolver
from cloudfs.sync.worker import Worker

__all__ = ["Writing", "make_writing"]


@dataclass(frozen=True)
class Writing:
    """Changes on their way up."""

    obstacles: Obstacles
    worker: Worker
    resolver: Resolver
    """Of conflicts."""
    deletions: Deletions
    """Those that wait for an answer."""


def make_writing(ground: Ground, server: Server, reading: Reading, guards: Guards, shown: Shown) -> Writing:
    """Make those who bring changes to the server, and those who carry out what a person decides about them."""
    obstacles = _obstacles(ground, server, guards, shown)
    worker = _worker(ground, server, reading, guards, shown, obstacles)
    resolver = Resolver(
        ground.store,
        server.remote,
        shown.tree,
        shown.lister,
        reading.fetcher,
        reading.files,
        reading.outgoing,
        worker,
        sink=ground.sink,
    )
    deletions = Deletions(
        ground.store,
        guards.guard,
        guards.restraint,
        guards.setback,
        shown.lister,
        reading.outgoing,
        ground.sink,
        changed=ground.inbox.notify,
        reserved=worker.reserved,
    )
    return Writing(obstacles, worker, resolver, deletions)


def _obstacles(ground: Ground, server: Server, guards: Guards, shown: Shown) -> Obstacles:
    return Obstacles(
        ground.store,
        ground.residents,
        server.connectivity,
        ground.inbox.troubles,
        restraint=guards.restraint,
        guard=guards.guard,
        spreading=shown.tree.spreading,
        pause=server.pause,
    )


def _worker(
    ground: Ground, server: Server, reading: Reading, guards: Guards, shown: Shown, obstacles: Obstacles
) -> Worker:
    hands = make_hands(ground, server, reading, guards, shown)
    executor = Executor(ground.store, server.remote, shown.lister, ground.touches, hands, ground.echoes)
    return Worker(
        ground.store,
        ground.inbox,
        executor,
        server.connectivity,
        ground.config.worker,
        written_at=reading.files.written_at,
        restraint=guards.restraint,
        obstacles=obstacles,
    )
