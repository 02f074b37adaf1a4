"""The way of bytes: who brings what is read, and what will be, and of what a file is made."""

from __future__ import annotations

from dataclasses import dataclass

from cloudfs.content.fetch import Fetcher, MemoryBudget
from cloudfs.content.files import Files
from cloudfs.content.outgoing import Outgoing
from cloudfs.content.prefetch import Prefetcher
from cloudfs.content.retrieval import Retrieval
from cloudfs.content.source import Locate, Source, Whereabouts
from cloudfs.engine.ground import Ground
from cloudfs.engine.server import Server
from cloudfs.errors import Changed
from cloudfs.store.store import Store

__all__ = ["Reading", "make_reading"]


@dataclass(frozen=True)
class Reading:
    """Contents, from the server and from here."""

    fetcher: Fetcher
    prefetcher: Prefetcher
    files: Files
    outgoing: Outgoing
    """The same contents on their way up; what they lack is read for it."""


def make_reading(ground: Ground, server: Server) -> Reading:
    """Make those who bring contents, and keep them."""
    fetcher = _fetcher(ground, server)
    prefetcher = Prefetcher(
        ground.store.nodes,
        fetcher,
        ground.nursery,
        is_another_there=ground.store.is_observed,
        is_paused=lambda: server.pause.fetching.is_on,
    )
    files = Files(
        ground.store,
        ground.staging,
        fetcher,
        prefetcher,
        changed=ground.inbox.notify,
        begun=ground.displaced.readmit,
        outdated=ground.upcalls.outdated,
        make_room=ground.blocks.give_way,
    )
    return Reading(fetcher, prefetcher, files, _outgoing(ground, server, fetcher, files))


def _fetcher(ground: Ground, server: Server) -> Fetcher:
    sink = ground.sink
    return Fetcher(
        ground.blocks,
        server.remote,
        _locator(ground.store),
        MemoryBudget(ground.config.memory_bytes),
        ground.nursery,
        silence=server.connectivity.silence,
        dropped=lambda ino: sink.node_changed(ino, content=True),
    )


def _outgoing(ground: Ground, server: Server, fetcher: Fetcher, files: Files) -> Outgoing:
    return Outgoing(
        ground.store,
        ground.staging,
        ground.blocks,
        fetcher,
        files,
        Retrieval(ground.store, server.remote, ground.blocks),
        import_limit=ground.config.cache_bytes // 4,
        keeps=ground.keeper.keeps,
    )


def _locator(store: Store) -> Locate:
    """Make what tells where a version is on the server; it raises Changed where that has another one by now."""

    def locate(source: Source) -> Whereabouts:
        path, node = store.nodes.synced_path(source.ino), store.nodes.get(source.ino)
        if path is None or node is None:
            subject = f"inode {source.ino}"
            raise Changed("the version that was opened is not on the server any more", subject=subject)
        current = node.s_version == source.version
        remote = node.remote_version if current else source.remote
        in_doubt = store.nodes.is_in_doubt(source.ino) or store.has_tail_attempt(source.ino)
        return Whereabouts(path, remote, in_doubt)

    return locate
