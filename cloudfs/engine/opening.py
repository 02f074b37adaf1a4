"""Opens an engine: has its rooms made one on the other, puts right what a crash left, and starts who works in them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from cloudfs.concurrency.clocks import Clocks, Continuity, SystemClocks, watch_clocks
from cloudfs.concurrency.supervise import supervise
from cloudfs.engine.awakening import jumped, moved
from cloudfs.engine.config import EngineConfig
from cloudfs.engine.disk import open_disk, put_right
from cloudfs.engine.engine import Engine
from cloudfs.engine.filesystem import make_filesystem
from cloudfs.engine.greeting import greet_first, introduce
from cloudfs.engine.ground import Ground, lay_ground
from cloudfs.engine.guarding import make_guards
from cloudfs.engine.keeping import make_hydrator
from cloudfs.engine.reading import Reading, make_reading
from cloudfs.engine.server import Server, make_server
from cloudfs.engine.tree import Shown, make_tree
from cloudfs.engine.watching import Watching, make_watching
from cloudfs.engine.writing import Writing, make_writing
from cloudfs.metadata.changes import ChangeSink
from cloudfs.remote.protocol import Remote
from cloudfs.sync.connectivity import State
from cloudfs.sync.hydrating import Hydrator
from cloudfs.sync.news import News
from cloudfs.sync.outages import Outages
from cloudfs.vfs.filesystem import FileSystem

__all__ = ["open_engine"]

_Worker = tuple[str, Callable[[], Awaitable[object]]]


@dataclass(frozen=True)
class _Rooms:
    """Each stands on some of those before it."""

    ground: Ground
    server: Server
    reading: Reading
    shown: Shown
    watching: Watching
    hydrator: Hydrator
    writing: Writing
    filesystem: FileSystem


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
    clocks = clocks or SystemClocks()
    async with open_disk(config) as disk, trio.open_nursery() as nursery:
        ground = lay_ground(config, disk, sink, nursery, Continuity(clocks))
        engine = await _begin(_furnish(ground, make_server(ground, remote, withheld), told))
        watch = partial(watch_clocks, clocks, partial(jumped, engine, reconnect, nursery))
        _keep(nursery, [("clocks", watch), ("news", engine.news.run)])
        if network is not None:
            _keep(nursery, [("networks", partial(network, partial(moved, engine, reconnect, nursery)))])
        try:
            yield engine
        finally:
            with trio.CancelScope(shield=True):
                await engine.filesystem.close()
                engine.news.flush()
            nursery.cancel_scope.cancel()


def _furnish(ground: Ground, server: Server, told: Callable[[bool], None]) -> _Rooms:
    reading = make_reading(ground, server)
    guards = make_guards(ground)
    shown = make_tree(ground, server, reading, guards)
    watching = make_watching(ground, server, shown, told)
    hydrator = make_hydrator(ground, server, reading, shown, watching)
    writing = make_writing(ground, server, reading, guards, shown)
    filesystem = make_filesystem(ground, server, reading, shown)
    return _Rooms(ground, server, reading, shown, watching, hydrator, writing, filesystem)


async def _begin(rooms: _Rooms) -> Engine:
    """Put right what was left, and have the work begin."""
    ground, server, shown, watcher = rooms.ground, rooms.server, rooms.shown, rooms.watching.watcher
    await put_right(ground.config, ground.store, ground.staging, shown.tree, rooms.reading.files)
    greet = partial(introduce, server.remote, shown.lister, watcher, server.quota)
    outages = None if server.outspoken is None else Outages(server.connectivity, server.outspoken, greet)
    _keep(ground.nursery, _workers(rooms, outages))
    greeting = greet_first(ground.nursery, greet)
    return Engine(
        config=ground.config,
        store=ground.store,
        blocks=ground.blocks,
        tree=shown.tree,
        lister=shown.lister,
        files=rooms.reading.files,
        fetcher=rooms.reading.fetcher,
        prefetcher=rooms.reading.prefetcher,
        filesystem=rooms.filesystem,
        worker=rooms.writing.worker,
        obstacles=rooms.writing.obstacles,
        connectivity=server.connectivity,
        resolver=rooms.writing.resolver,
        deletions=rooms.writing.deletions,
        outages=outages,
        watcher=watcher,
        pusher=rooms.watching.pusher,
        keeper=ground.keeper,
        hydrator=rooms.hydrator,
        greet=greet,
        greeting=greeting,
        pause=server.pause,
        remote=server.remote,
        residents=ground.residents,
        uploads=server.remote.uploads,
        quota=server.quota,
        sink=ground.sink,
        news=_news(rooms),
    )


def _news(rooms: _Rooms) -> News:
    """Make what tells people of what succeeds."""
    news = News(rooms.ground.store.nodes, names=rooms.ground.config.keys is None)
    rooms.writing.worker.outcomes.succeeded, rooms.hydrator.bringer.brought = news.done, news.brought
    return news


def _workers(rooms: _Rooms, outages: Outages | None) -> list[_Worker]:
    ground, server, files = rooms.ground, rooms.server, rooms.reading.files

    def may_fetch_bases() -> bool:
        return server.connectivity.online and not server.pause.is_on

    return [
        ("write-back", rooms.writing.worker.run),
        ("cache upkeep", ground.blocks.run),
        ("memory upkeep", rooms.reading.fetcher.run),
        ("verification", rooms.reading.fetcher.verifier.run),
        ("database upkeep", ground.store.run),
        ("staging upkeep", files.disposal.run),
        ("hardening", files.hardening.run),
        ("bases of edits", partial(files.bases.run, may_fetch_bases)),
        ("deletion guard", rooms.writing.deletions.run),
        ("marking", rooms.shown.tree.spreading.run),
        ("hydration", rooms.hydrator.run),
        ("changes of others", rooms.watching.watcher.run),
        ("messages of the server", rooms.watching.pusher.run),
        *([("outages", outages.run)] if outages else []),
        *([("pieces nobody wants", server.leftovers.run)] if server.leftovers else []),
    ]


def _keep(nursery: trio.Nursery, workers: Iterable[_Worker]) -> None:
    """Have workers run for as long as the engine does."""
    for name, run in workers:
        nursery.start_soon(partial(supervise, name, run, chance=random.Random()))  # noqa: S311  # jitter
