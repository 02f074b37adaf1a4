"""What is always here: who brings it, and keeps it up to date."""

from __future__ import annotations

from functools import partial

from cloudfs.engine.ground import Ground
from cloudfs.engine.reading import Reading
from cloudfs.engine.server import Server
from cloudfs.engine.tree import Shown
from cloudfs.engine.watching import Watching
from cloudfs.sync.hydrating import Hydrator, Members
from cloudfs.sync.kept import KeptWalker

__all__ = ["make_hydrator"]


def make_hydrator(
    ground: Ground, server: Server, reading: Reading, shown: Shown, watching: Watching
) -> Hydrator:
    """Make what brings here what is always to be here."""
    store, lister, fetcher = ground.store, shown.lister, reading.fetcher
    walker = KeptWalker(store, ground.keeper, fetcher, is_another_there=store.is_observed)
    first = partial(lister.ensure_listed, reading=True)  # as programs that walk do: whole trees come then
    hydrator = Hydrator(
        store,
        ground.keeper,
        walker,
        fetcher,
        ground.blocks,
        Members(shown.tree.lookup, first, lister.refresh, lister.outdated),
        server.pause.fetching,
        watched=watching.watcher.covers,
    )
    ground.upcalls.hydrator = hydrator
    return hydrator
