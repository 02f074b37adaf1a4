"""An engine, as those who use it see it: what was put together, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.content.fetch import Fetcher
from cloudfs.content.files import Files
from cloudfs.content.prefetch import Prefetcher
from cloudfs.engine.config import EngineConfig
from cloudfs.engine.greeting import Greeting
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.quota import Quota
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.tree import Tree
from cloudfs.remote.protocol import Remote
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import Connectivity
from cloudfs.sync.deletions import Deletions
from cloudfs.sync.hydrating import Hydrator
from cloudfs.sync.news import News
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outages import Outages
from cloudfs.sync.pausing import Pause
from cloudfs.sync.pinned import PinKeeper
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.resolve import Resolver
from cloudfs.sync.sending import Uploads
from cloudfs.sync.watching import Watcher
from cloudfs.sync.worker import Worker
from cloudfs.vfs.filesystem import FileSystem

__all__ = ["Engine"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One account at work."""

    config: EngineConfig
    store: Store
    blocks: BlockStore
    tree: Tree
    lister: Lister
    files: Files
    fetcher: Fetcher
    prefetcher: Prefetcher
    filesystem: FileSystem
    worker: Worker
    obstacles: Obstacles
    connectivity: Connectivity
    resolver: Resolver
    deletions: Deletions
    outages: Outages | None
    """None: the server tells nothing without a login."""
    watcher: Watcher
    pusher: Pusher
    keeper: PinKeeper
    hydrator: Hydrator
    greet: Callable[[], Awaitable[None]]
    """Asks the server what it is and whether it lets us in, and looks at the root; fails in silence."""
    greeting: Greeting
    """The first time that this is done."""
    pause: Pause
    remote: Remote
    residents: Residents
    uploads: Uploads
    quota: Quota
    sink: ChangeSink
    news: News
