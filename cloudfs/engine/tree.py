"""The way of a look: who asks for listings, takes them over, and shows the tree that comes of them."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.engine.ground import Ground
from cloudfs.engine.guarding import Guards
from cloudfs.engine.reading import Reading
from cloudfs.engine.server import Server
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.spreading import Spreading
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.tree import Tree
from cloudfs.metadata.trees import Trees

__all__ = ["Shown", "make_tree"]


@dataclass(frozen=True)
class Shown:
    """What the mount shows, and where it comes from."""

    takeover: Takeover
    lister: Lister
    tree: Tree


def make_tree(ground: Ground, server: Server, reading: Reading, guards: Guards) -> Shown:
    """Make the tree, and those who keep it as the server has it."""
    takeover = _takeover(ground, server, reading, guards)
    lister = Lister(
        ground.store,
        server.remote,
        takeover,
        ground.touches,
        ground.nursery,
        ttl_s=ground.config.listing_ttl_s,
        told_fingerprint=guards.setback.seen,
        undisturbed_since=ground.continuity.since,
        silence=server.connectivity.silence,
    )
    lister.ahead = Trees(ground.store, server.remote, ground.touches, lister, ground.nursery)
    ground.upcalls.lister = lister
    return Shown(takeover, lister, _tree(ground, server, reading, lister))


def _takeover(ground: Ground, server: Server, reading: Reading, guards: Guards) -> Takeover:
    remote = server.remote
    return Takeover(
        ground.store,
        ground.residents,
        ground.displaced,
        ground.sink,
        keeps_mtime=lambda: remote.features.sets_mtime,
        discard=reading.files.disposal.discard,
        guard=guards.guard,
        setback=guards.setback,
        may_more=ground.inbox.may_more,
        doubt=ground.touches.doubt,
    )


def _tree(ground: Ground, server: Server, reading: Reading, lister: Lister) -> Tree:
    remote, changed = server.remote, ground.upcalls.changed
    tree = Tree(
        ground.store,
        lister,
        ground.residents,
        ground.displaced,
        rules=lambda: remote.features.name_rules,
        changed=changed,
        discard=reading.files.disposal.discard,
        spreading=Spreading(ground.store, changed, ground.inbox.ring),
    )
    tree.moved, tree.emptied = reading.files.hardening.moved, ground.inbox.emptied
    return tree
