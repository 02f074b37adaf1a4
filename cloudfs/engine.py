"""Puts one account together, from the database up to the file system, without a mount.

daemon.py adds the kernel and the control socket; tests drive `Engine.filesystem` directly.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from cloudfs.assembly import (
    UNKNOWN_SPACE,
    Disk,
    EngineConfig,
    gate,
    guards,
    hands_of,
    hydrator_of,
    leftovers_of,
    news_of,
    reading,
    space_of,
    watching,
)
from cloudfs.blocks.blockstore import BlockStore
from cloudfs.concurrency.clocks import Clocks, Continuity, Jump, SystemClocks, watch_clocks
from cloudfs.concurrency.supervise import attempt, supervise
from cloudfs.content.fetch import Fetcher
from cloudfs.content.files import Files
from cloudfs.content.outgoing import Outgoing
from cloudfs.content.prefetch import Prefetcher
from cloudfs.content.retrieval import Retrieval
from cloudfs.disk import open_staging, open_store, put_right
from cloudfs.greeting import Greeting, greet_first, introduce
from cloudfs.metadata.changes import ChangeSink, Overheard
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.quota import Quota
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.spreading import Spreading
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import TouchLog
from cloudfs.metadata.tree import Tree
from cloudfs.metadata.trees import Trees
from cloudfs.remote.protocol import Outspoken, Remote
from cloudfs.store.store import Store
from cloudfs.sync.appending import Appending
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.deletions import Deletions
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.execute import Executor
from cloudfs.sync.hydrating import Hydrator
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.news import News
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outages import Outages
from cloudfs.sync.packing import Contents
from cloudfs.sync.pausing import Pause
from cloudfs.sync.pinned import PinKeeper
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.resolve import Resolver
from cloudfs.sync.sending import Uploads
from cloudfs.sync.watching import Watcher
from cloudfs.sync.worker import Worker
from cloudfs.types import Ino
from cloudfs.vfs.filesystem import FileSystem

__all__ = ["Engine", "EngineConfig", "open_engine"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
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


@asynccontextmanager
async def open_engine(
    config: EngineConfig,
    remote: Remote,
    sink: ChangeSink,
    *,
    clocks: Clocks | None = None,
    reconnect: Callable[[], None] = lambda: None,
    network: Callable[[Callable[[], None]], Awaitable[None]] | None = None,
    told: Callable[[bool], None] = lambda _: None,
    withheld: tuple[State, str] | None = None,
) -> AsyncIterator[Engine]:
    """Open an account's state and start its workers; on leaving everything acknowledged is safe on the disk.

    Never waits for the network. Raises LocalDamage when the state cannot be used. `reconnect` has `remote` make new
    connections, for when the machine has slept; `network` runs for ever and calls back when the machine changed its
    network. `told` hears whether all changes of others are announced to `sink` soon, or only those in what is used.
    `withheld`: `remote` has no password yet, in that state and for that reason; nothing is sent before `logged_in`.
    """
    store = open_store(config)
    try:
        staging = open_staging(config, store)
        seal = None if config.keys is None else config.keys.seal("pins")
        keeper = PinKeeper(store, config.state / "pins.json", config.keep, seal)
        blocks = await BlockStore.open(
            config.cache / "blocks",
            store.store_id,
            limit_bytes=config.cache_bytes,
            keep_free_bytes=config.cache_keep_free_bytes,
            exempt=keeper.is_exempt,
            exempt_bytes=lambda: keeper.cached_bytes,
            keys=config.keys,
        )
        try:
            async with trio.open_nursery() as nursery:
                clocks = clocks or SystemClocks()
                disk = Disk(staging, blocks, keeper)
                engine = await _compose(
                    config, remote, sink, store, disk, nursery, told, withheld, Continuity(clocks)
                )
                watch = partial(watch_clocks, clocks, partial(_jumped, engine, reconnect, nursery))
                _keep(nursery, [("clocks", watch), ("news", engine.news.run)])
                if network is not None:
                    moved = partial(_moved, engine, reconnect, nursery)
                    _keep(nursery, [("networks", partial(network, moved))])
                try:
                    yield engine
                finally:
                    with trio.CancelScope(shield=True):
                        await engine.filesystem.close()
                        engine.news.flush()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await blocks.aclose()
                await staging.aclose()
    finally:
        store.close()


async def _compose(  # noqa: PLR0913, PLR0917  # all that an engine is made of comes together here
    config: EngineConfig,
    remote: Remote,
    sink: ChangeSink,
    store: Store,
    disk: Disk,
    nursery: trio.Nursery,
    told: Callable[[bool], None],
    withheld: tuple[State, str] | None,
    continuity: Continuity,
) -> Engine:
    staging, blocks, keeper = disk
    inbox, residents, touches, echoes = Inbox(), Residents(), TouchLog(), Echoes()
    sink = Overheard(sink, lambda: hydrator.wake())  # noqa: PLW0108  # it is made below

    def resumed() -> None:
        inbox.ring()
        hydrator.wake()

    def returned() -> None:
        resumed()
        watcher.wake()

    connectivity = Connectivity(
        returned,
        lambda: watcher.wake(),  # noqa: PLW0108  # it is made below
        withheld=withheld,
    )
    outspoken, leftovers = remote if isinstance(remote, Outspoken) else None, leftovers_of(store, remote)
    pause = Pause(store, resumed)
    remote, quota = gate(remote, store, connectivity, pause, inbox, nursery, leftovers)
    displaced = Displaced(store, residents, sink)
    fetcher, prefetcher = reading(config, store, remote, blocks, sink, nursery, pause, connectivity.silence)
    files = Files(
        store,
        staging,
        fetcher,
        prefetcher,
        changed=inbox.notify,
        begun=displaced.readmit,
        outdated=lambda ino: lister.outdated(ino),  # noqa: PLW0108  # it is made below
        make_room=blocks.give_way,
    )
    outgoing = Outgoing(
        store,
        staging,
        blocks,
        fetcher,
        files,
        Retrieval(store, remote, blocks),
        import_limit=config.cache_bytes // 4,
        keeps=keeper.keeps,
    )
    guard, restraint, setback = guards(config, store, inbox)
    takeover = Takeover(
        store,
        residents,
        displaced,
        sink,
        keeps_mtime=lambda: remote.features.sets_mtime,
        discard=files.disposal.discard,
        guard=guard,
        setback=setback,
        may_more=inbox.may_more,
        doubt=touches.doubt,
    )
    lister = Lister(
        store,
        remote,
        takeover,
        touches,
        nursery,
        ttl_s=config.listing_ttl_s,
        told_fingerprint=setback.seen,
        undisturbed_since=continuity.since,
        silence=connectivity.silence,
    )
    watcher, pusher = watching(config, store, remote, connectivity, lister, touches, echoes, told)
    lister.ahead = Trees(store, remote, touches, lister, nursery)

    def changed(ino: Ino) -> None:
        inbox.notify(ino)
        hydrator.wake()

    tree = Tree(
        store,
        lister,
        residents,
        displaced,
        rules=lambda: remote.features.name_rules,
        changed=changed,
        discard=files.disposal.discard,
        spreading=Spreading(store, changed, inbox.ring),
    )
    tree.moved, tree.emptied = files.hardening.moved, inbox.emptied
    hydrator = hydrator_of(store, disk, fetcher, tree, lister, watcher, pause)
    contents = Contents(files, outgoing, fetcher, Appending(remote, config.append_bytes))
    hands = hands_of(store, remote, lister, touches, contents, residents, takeover, guard, tree, sink)
    obstacles = Obstacles(
        store,
        residents,
        connectivity,
        inbox.troubles,
        restraint=restraint,
        guard=guard,
        spreading=tree.spreading,
        pause=pause,
    )
    worker = Worker(
        store,
        inbox,
        Executor(store, remote, lister, touches, hands, echoes),
        connectivity,
        config.worker,
        written_at=files.written_at,
        restraint=restraint,
        obstacles=obstacles,
    )
    resolver = Resolver(store, remote, tree, lister, fetcher, files, outgoing, worker, sink=sink)
    filesystem = FileSystem(
        store,
        tree,
        lister,
        files,
        residents,
        new_pattern=fetcher.pattern,
        space=lambda: space_of(quota, remote.features),
        may_be_free=lambda: store.nodes.bytes_to_leave() if quota.is_sure() else UNKNOWN_SPACE,
    )
    deletions = Deletions(
        store,
        guard,
        restraint,
        setback,
        lister,
        outgoing,
        sink,
        changed=inbox.notify,
        reserved=worker.reserved,
    )
    await put_right(config, store, staging, tree, files)
    greet = partial(introduce, remote, lister, watcher, quota)
    outages = None if outspoken is None else Outages(connectivity, outspoken, greet)
    _keep(
        nursery,
        [
            ("write-back", worker.run),
            ("cache upkeep", blocks.run),
            ("memory upkeep", fetcher.run),
            ("verification", fetcher.verifier.run),
            ("database upkeep", store.run),
            ("staging upkeep", files.disposal.run),
            ("hardening", files.hardening.run),
            ("bases of edits", partial(files.bases.run, lambda: connectivity.online and not pause.is_on)),
            ("deletion guard", deletions.run),
            ("marking", tree.spreading.run),
            ("hydration", hydrator.run),
            ("changes of others", watcher.run),
            ("messages of the server", pusher.run),
            *([("outages", outages.run)] if outages else []),
            *([("pieces nobody wants", leftovers.run)] if leftovers else []),
        ],
    )
    greeting = greet_first(nursery, greet)
    return Engine(
        config,
        store,
        blocks,
        tree,
        lister,
        files,
        fetcher,
        prefetcher,
        filesystem,
        worker,
        obstacles,
        connectivity,
        resolver,
        deletions,
        outages,
        watcher,
        pusher,
        keeper,
        hydrator,
        greet,
        greeting,
        pause,
        remote,
        residents,
        remote.uploads,
        quota,
        sink,
        news_of(store, worker, hydrator, names=config.keys is None),
    )


def _keep(nursery: trio.Nursery, workers: Iterable[tuple[str, Callable[[], Awaitable[object]]]]) -> None:
    """Have workers run for as long as the engine does."""
    for name, run in workers:
        nursery.start_soon(partial(supervise, name, run, chance=random.Random()))  # noqa: S311  # jitter


def _jumped(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery, jump: Jump) -> None:
    """The machine woke up, or its clock was set: what was put off is due, what was fresh is old."""
    _log.info("the machine slept for %.0f s, its clock was set by %+.0f s", jump.slept_s, jump.stepped_s)
    engine.lister.distrust_ages()
    engine.watcher.distrust()
    if jump.slept_s:
        _try_all(engine, reconnect, nursery)
    else:
        engine.watcher.wake()


def _moved(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery) -> None:
    """The machine changed its network: connections lead nowhere, and what was put off may be possible now."""
    _log.info("the network has changed")
    engine.watcher.distrust()
    _try_all(engine, reconnect, nursery)


def _try_all(engine: Engine, reconnect: Callable[[], None], nursery: trio.Nursery) -> None:
    reconnect()
    engine.pusher.reconnect()
    if engine.connectivity.state is not State.NEEDS_LOGIN:
        engine.worker.try_all_now()
        nursery.start_soon(attempt, "the first request after a change", engine.greet)
