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
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.sealing import Keys
from cloudfs.blocks.staging import Staging
from cloudfs.concurrency.clocks import Clocks, Jump, SystemClocks, watch_clocks
from cloudfs.concurrency.supervise import attempt, supervise
from cloudfs.content.adoption import Adoption
from cloudfs.content.fetch import Fetcher, MemoryBudget
from cloudfs.content.files import Files
from cloudfs.content.outgoing import Outgoing
from cloudfs.content.powercut import after_power_cut, boot_id
from cloudfs.content.prefetch import Prefetcher
from cloudfs.content.retrieval import Retrieval
from cloudfs.content.source import Locate, Source, Whereabouts
from cloudfs.errors import Changed, RemoteError
from cloudfs.metadata.changes import ChangeSink, Overheard
from cloudfs.metadata.displaced import Displaced
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.pinning import Defaults
from cloudfs.metadata.placing import stays_local
from cloudfs.metadata.quota import Quota
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.setback import Setback
from cloudfs.metadata.spreading import Spreading
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import TouchLog
from cloudfs.metadata.tree import Tree
from cloudfs.metadata.trees import Trees
from cloudfs.remote.protocol import Outspoken, Piecemeal, Remote, Spelling
from cloudfs.store.db import DatabaseDamaged, set_aside
from cloudfs.store.store import Store
from cloudfs.sync.appending import FROM_BYTES, Appending
from cloudfs.sync.bulk import BulkUploader, NewFolders
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.deletions import Deletions
from cloudfs.sync.descent import Descent
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.execute import Executor, Hands
from cloudfs.sync.finding import Finder
from cloudfs.sync.folders import FolderMaker
from cloudfs.sync.gate import GatedRemote
from cloudfs.sync.hydrating import Hydrator, Members
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.kept import KeptWalker
from cloudfs.sync.leftovers import Leftovers
from cloudfs.sync.moving import Mover
from cloudfs.sync.obstacles import Obstacles
from cloudfs.sync.outages import Outages
from cloudfs.sync.packing import Contents, Packer
from cloudfs.sync.pausing import Pause
from cloudfs.sync.pinned import PinKeeper
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.removal import Remover
from cloudfs.sync.resolve import Resolver
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.sending import Uploads
from cloudfs.sync.upload import Uploader
from cloudfs.sync.watching import Pace, Watcher
from cloudfs.sync.worker import Worker, WorkerConfig
from cloudfs.types import ROOT, Ino
from cloudfs.vfs.filesystem import FileSystem
from cloudfs.vfs.records import Space

__all__ = ["Engine", "EngineConfig", "open_engine"]

_log = logging.getLogger(__name__)

_UNKNOWN_SPACE = 1 << 50
"""Shown where the server names no limit: one pebibyte free."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account's folders and limits."""

    state: Path
    """Folder of the database and the staging files."""
    cache: Path
    """Folder of the clean blocks; may be deleted while nothing is mounted."""
    cache_bytes: int
    cache_keep_free_bytes: int
    memory_bytes: int = 64 * 1024 * 1024
    listing_ttl_s: float = 5.0
    poll_s: float = 30.0
    """The account is looked at for what others changed as often as this while it is in use; 0: each folder on use."""
    reserve_bytes: int = 16 * 1024 * 1024
    """Allocated for the database's log beforehand, and as much kept free of changed files."""
    delete_guard: int = 100
    """So many nodes may vanish on the server at once without anybody being asked; 0: any number."""
    delete_guard_server: int = 1000
    """So many nodes may be deleted on the server at once without anybody being asked; 0: any number."""
    append_bytes: int = FROM_BYTES
    """Of a file that was at least so large and only grew at its end, the tail alone is sent."""
    keys: Keys | None = None
    """Everything in the two folders is sealed with them; None: it is plain."""
    keep: Defaults = Defaults()
    """What is always kept here of all that nobody said anything else about."""
    worker: WorkerConfig = WorkerConfig()


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
    pause: Pause
    remote: Remote
    residents: Residents
    uploads: Uploads
    quota: Quota
    sink: ChangeSink


class _Disk(NamedTuple):
    """Where bytes are on this machine, and which of them stay."""

    staging: Staging
    blocks: BlockStore
    keeper: PinKeeper


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
    store = _open_store(config)
    try:
        staging = _staging(config, store)
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
                engine = await _compose(
                    config, remote, sink, store, _Disk(staging, blocks, keeper), nursery, told, withheld
                )
                watch = partial(
                    watch_clocks, clocks or SystemClocks(), partial(_jumped, engine, reconnect, nursery)
                )
                _keep(nursery, [("clocks", watch)])
                if network is not None:
                    moved = partial(_moved, engine, reconnect, nursery)
                    _keep(nursery, [("networks", partial(network, moved))])
                try:
                    yield engine
                finally:
                    with trio.CancelScope(shield=True):
                        await engine.filesystem.close()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await blocks.aclose()
                await staging.aclose()
    finally:
        store.close()


async def _compose(
    config: EngineConfig,
    remote: Remote,
    sink: ChangeSink,
    store: Store,
    disk: _Disk,
    nursery: trio.Nursery,
    told: Callable[[bool], None],
    withheld: tuple[State, str] | None,
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
    outspoken, leftovers = remote if isinstance(remote, Outspoken) else None, _leftovers(store, remote)
    pause = Pause(store, resumed)
    remote, quota = _gate(remote, store, connectivity, pause, inbox, nursery)
    displaced = Displaced(store, residents, sink)
    fetcher, prefetcher = _reading(config, store, remote, blocks, sink, nursery, pause)
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
        Retrieval(store, remote),
        import_limit=config.cache_bytes // 4,
        keeps=keeper.keeps,
    )
    guard, restraint, setback = _guards(config, store, inbox)
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
    )
    lister = Lister(
        store,
        remote,
        takeover,
        touches,
        nursery,
        ttl_s=config.listing_ttl_s,
        told_fingerprint=setback.seen,
    )
    watcher, pusher = _watching(config, store, remote, connectivity, lister, echoes, told)
    lister.ahead = Trees(store, remote, touches, lister, nursery)

    def changed(ino: Ino) -> None:
        inbox.notify(ino)
        files.hardening.moved(ino)
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
    hydrator = _hydrator(store, disk, fetcher, tree, lister, watcher, pause)
    contents = Contents(files, outgoing, fetcher, Appending(remote, config.append_bytes))
    hands = _hands(store, remote, lister, contents, residents, takeover, tree, sink)
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
        space=lambda: _space(quota, remote.features.name_rules.new_file_bytes),
        may_be_free=lambda: store.nodes.bytes_to_leave() if quota.is_sure() else _UNKNOWN_SPACE,
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
    await _put_right(config, store, staging, tree, files)
    greet = partial(_introduce, remote, lister, watcher, quota)
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
    nursery.start_soon(attempt, "the first request", greet)
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
        pause,
        remote,
        residents,
        remote.uploads,
        quota,
        sink,
    )


def _leftovers(store: Store, remote: Remote) -> Leftovers | None:
    return Leftovers(store, remote) if isinstance(remote, Piecemeal) else None


def _gate(
    remote: Remote,
    store: Store,
    connectivity: Connectivity,
    pause: Pause,
    inbox: Inbox,
    nursery: trio.Nursery,
) -> tuple[GatedRemote, Quota]:
    """Make the one door to the server, and what counts the space there."""
    if isinstance(remote, Spelling):
        remote.spell_by(store.nodes.spelled)
    gate = GatedRemote(remote, connectivity)
    gate.pause = pause
    quota = Quota(gate, nursery, inbox.has_room)
    gate.spent, gate.freed = quota.spent, quota.freed
    return gate, quota


def _reading(
    config: EngineConfig,
    store: Store,
    remote: Remote,
    blocks: BlockStore,
    sink: ChangeSink,
    nursery: trio.Nursery,
    pause: Pause,
) -> tuple[Fetcher, Prefetcher]:
    """Make those who bring what is read, and what will be."""
    fetcher = Fetcher(
        blocks,
        remote,
        _locator(store),
        MemoryBudget(config.memory_bytes),
        nursery,
        dropped=lambda ino: sink.node_changed(ino, content=True),
    )
    prefetcher = Prefetcher(
        store.nodes,
        fetcher,
        nursery,
        is_another_there=store.is_observed,
        is_paused=lambda: pause.fetching.is_on,
    )
    return fetcher, prefetcher


def _keep(nursery: trio.Nursery, workers: Iterable[tuple[str, Callable[[], Awaitable[object]]]]) -> None:
    """Have workers run for as long as the engine does."""
    for name, run in workers:
        nursery.start_soon(partial(supervise, name, run, chance=random.Random()))  # noqa: S311  # jitter


def _hands(
    store: Store,
    remote: Remote,
    lister: Lister,
    contents: Contents,
    residents: Residents,
    takeover: Takeover,
    tree: Tree,
    sink: ChangeSink,
) -> Hands:
    """Make those who carry out steps."""
    collect = tree.collect
    doubts, new_folders = Doubts(store.nodes), NewFolders()
    conflicts = Conflicts(store, takeover, sink, met=new_folders.forget)
    lister.sole_use = new_folders
    packer = Packer(store, contents, residents, collect)
    uploader = Uploader(store, remote, contents, residents, conflicts, doubts, packer, collect)
    folders = FolderMaker(store, remote, conflicts, doubts, new_folders.made, lister.refresh_later, collect)
    mover = Mover(store, remote, uploader, conflicts, doubts)
    remover = Remover(
        store, remote, lister, residents, contents.files, contents.outgoing, doubts, uploader.tail_arrived
    )
    return Hands(
        Finder(store, remote, folders, mover, uploader, remover, takeover, doubts, collect),
        folders,
        uploader,
        BulkUploader(store, remote, packer, uploader, doubts, new_folders),
        mover,
        remover,
    )


def _guards(config: EngineConfig, store: Store, inbox: Inbox) -> tuple[VanishGuard, Restraint, Setback]:
    """Make what keeps much from vanishing at once, here and there; neither believes a server that was set back."""
    guard = VanishGuard(store, limit=config.delete_guard, released=inbox.start_afresh)
    restraint = Restraint(store, limit=config.delete_guard_server)

    def distrust(whether: bool) -> None:  # noqa: FBT001  # a callback
        guard.distrusted = restraint.distrusted = whether
        inbox.ring()

    setback = Setback(store, distrust)
    distrust(setback.since is not None)
    return guard, restraint, setback


def _hydrator(
    store: Store, disk: _Disk, fetcher: Fetcher, tree: Tree, lister: Lister, watcher: Watcher, pause: Pause
) -> Hydrator:
    """Make what brings here what is always to be here."""
    walker = KeptWalker(store, disk.keeper, fetcher, is_another_there=store.is_observed)
    first = partial(lister.ensure_listed, reading=True)  # as programs that walk do: whole trees come then
    members = Members(tree.lookup, first, lister.refresh, lister.outdated)
    return Hydrator(
        store, disk.keeper, walker, fetcher, disk.blocks, members, pause.fetching, watched=watcher.covers
    )


async def _put_right(config: EngineConfig, store: Store, staging: Staging, tree: Tree, files: Files) -> None:
    """Bring rows and staging files together as they are after whatever ended the last life."""
    for complaint in after_power_cut(store, staging, config.state / "recovered", boot_id()):
        _log.error("%s", complaint)
    tree.collect_orphans()
    for complaint in await files.disposal.repair():
        _log.error("%s", complaint)
    files.hardening.note_all()
    await files.disposal.prune_all()


def _watching(
    config: EngineConfig,
    store: Store,
    remote: Remote,
    connectivity: Connectivity,
    lister: Lister,
    echoes: Echoes,
    told: Callable[[bool], None],
) -> tuple[Watcher, Pusher]:
    """Put together who finds out what others change."""
    descent = Descent(store.nodes, remote, lister)
    watcher = Watcher(
        descent.run,
        Pace(poll_s=config.poll_s, fresh_s=config.listing_ttl_s),
        possible=lambda: remote.features.deep_etags,
        not_before=lambda: connectivity.next_try,
        told=told,
    )
    lister.watch = watcher
    return watcher, Pusher(store.nodes, remote, watcher, descent, echoes)


def _open_store(config: EngineConfig) -> Store:
    """Open the database; a damaged one is kept under another name, and a new one takes its place."""
    path, key = config.state / "state.sqlite", None if config.keys is None else config.keys.database
    try:
        return Store(path, room_bytes=config.reserve_bytes, key=key)
    except DatabaseDamaged as damage:
        _log.error("%s; it is kept as %s, and a new one is begun", damage, set_aside(path))
        return Store(path, room_bytes=config.reserve_bytes, key=key)


def _staging(config: EngineConfig, store: Store) -> Staging:
    """Open the staging folder of this very database, and bring into it what a lost one has left."""
    folder = config.state / f"staging-{store.store_id}"
    sealed = None if config.keys is None else (config.keys, store.store_id)
    staging = Staging(folder, keep_free_bytes=config.reserve_bytes, sealed=sealed)
    adoption = Adoption(store, staging, config.state / "recovered", stays_local)
    for other in sorted(config.state.glob("staging-*")):
        if other != folder:
            for told in adoption.adopt(other):
                _log.error("%s", told)
    return staging


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


async def _introduce(remote: Remote, lister: Lister, watcher: Watcher, quota: Quota) -> None:
    """Learn in the background whether the server is there, lets us in, and what it can do now; then see the root."""
    try:
        await remote.connect()
    except RemoteError as error:
        _log.info("working from what is known: %s", error)
    else:
        if not remote.features.deep_etags:
            lister.refresh_later(ROOT)
        elif not watcher.covers():
            watcher.wake()
        await quota.greet()


def _locator(store: Store) -> Locate:
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


def _space(quota: Quota, name_bytes: int) -> Space:
    known = quota.space()
    if known is None:
        return Space(total=_UNKNOWN_SPACE, free=_UNKNOWN_SPACE, name_bytes=name_bytes, limited=False)
    return Space(total=known.free + known.used, free=known.free, name_bytes=name_bytes)
