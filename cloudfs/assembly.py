"""The parts of an account's engine, each group made of what it needs; `engine` has them work together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from cloudfs.blocks.blockstore import BlockStore
from cloudfs.blocks.sealing import Keys
from cloudfs.blocks.staging import Staging
from cloudfs.content.fetch import Fetcher, MemoryBudget
from cloudfs.content.prefetch import Prefetcher
from cloudfs.content.source import Locate, Source, Whereabouts
from cloudfs.errors import Changed
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.guard import VanishGuard
from cloudfs.metadata.listing import Lister
from cloudfs.metadata.pinning import Defaults
from cloudfs.metadata.quota import Quota
from cloudfs.metadata.renewing import Renewer
from cloudfs.metadata.residents import Residents
from cloudfs.metadata.setback import Setback
from cloudfs.metadata.takeover import Takeover
from cloudfs.metadata.touched import TouchLog
from cloudfs.metadata.tree import Tree
from cloudfs.remote.protocol import Features, Piecemeal, Remote, Spelling
from cloudfs.remote.silence import Silence
from cloudfs.store.store import Store
from cloudfs.sync.appending import FROM_BYTES
from cloudfs.sync.bulk import BulkUploader
from cloudfs.sync.committing import Committer
from cloudfs.sync.conflict import Conflicts
from cloudfs.sync.connectivity import Connectivity
from cloudfs.sync.descent import Descent
from cloudfs.sync.doubts import Doubts
from cloudfs.sync.echoes import Echoes
from cloudfs.sync.execute import Hands
from cloudfs.sync.finding import Finder
from cloudfs.sync.folders import FolderMaker
from cloudfs.sync.gate import GatedRemote
from cloudfs.sync.hydrating import Hydrator, Members
from cloudfs.sync.inbox import Inbox
from cloudfs.sync.kept import KeptWalker
from cloudfs.sync.leftovers import Leftovers
from cloudfs.sync.moving import Mover
from cloudfs.sync.newfolders import FolderLooks, NewFolders
from cloudfs.sync.news import News
from cloudfs.sync.packing import Contents, Packer
from cloudfs.sync.pausing import Pause
from cloudfs.sync.pinned import PinKeeper
from cloudfs.sync.pushing import Pusher
from cloudfs.sync.removal import Remover
from cloudfs.sync.restraint import Restraint
from cloudfs.sync.upload import Uploader
from cloudfs.sync.watching import Pace, Watcher
from cloudfs.sync.worker import Worker, WorkerConfig
from cloudfs.vfs.records import Space

__all__ = [
    "UNKNOWN_SPACE",
    "Disk",
    "EngineConfig",
    "gate",
    "guards",
    "hands_of",
    "hydrator_of",
    "leftovers_of",
    "locator",
    "news_of",
    "reading",
    "space_of",
    "watching",
]

UNKNOWN_SPACE = 1 << 50
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


class Disk(NamedTuple):
    """Where bytes are on this machine, and which of them stay."""

    staging: Staging
    blocks: BlockStore
    keeper: PinKeeper


def leftovers_of(store: Store, remote: Remote) -> Leftovers | None:
    """Make what removes pieces that nobody wants, where the server keeps any."""
    return Leftovers(store, remote) if isinstance(remote, Piecemeal) else None


def gate(
    remote: Remote,
    store: Store,
    connectivity: Connectivity,
    pause: Pause,
    inbox: Inbox,
    nursery: trio.Nursery,
    leftovers: Leftovers | None,
) -> tuple[GatedRemote, Quota]:
    """Make the one door to the server, and what counts the space there."""
    if isinstance(remote, Spelling):
        remote.spell_by(store.nodes.spelled)
    gate = GatedRemote(remote, connectivity)
    gate.pause = pause
    if leftovers is not None:
        gate.goes_in_pieces = leftovers.is_under_way

        def begun() -> None:
            pause.sending.review()
            inbox.ring()  # so does the worker, of what was changed or removed

        leftovers.told = begun
    quota = Quota(gate, nursery, inbox.has_room)
    gate.spent, gate.freed = quota.spent, quota.freed
    return gate, quota


def reading(
    config: EngineConfig,
    store: Store,
    remote: Remote,
    blocks: BlockStore,
    sink: ChangeSink,
    nursery: trio.Nursery,
    pause: Pause,
    silence: Silence,
) -> tuple[Fetcher, Prefetcher]:
    """Make those who bring what is read, and what will be."""
    fetcher = Fetcher(
        blocks,
        remote,
        locator(store),
        MemoryBudget(config.memory_bytes),
        nursery,
        silence=silence,
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


def hands_of(  # noqa: PLR0913, PLR0917  # what all of them need comes together here
    store: Store,
    remote: GatedRemote,
    lister: Lister,
    touches: TouchLog,
    contents: Contents,
    residents: Residents,
    takeover: Takeover,
    guard: VanishGuard,
    tree: Tree,
    sink: ChangeSink,
) -> Hands:
    """Make those who carry out steps."""
    collect = tree.collect
    doubts, new_folders = Doubts(store.nodes), NewFolders()
    conflicts = Conflicts(store, takeover, sink, met=new_folders.forget)
    lister.sole_use = new_folders
    looks = FolderLooks(new_folders, remote, lister, touches, Renewer(store, remote, touches, lister))
    packer, committer = Packer(store, contents, residents, collect), Committer(store, doubts, collect)
    uploader = Uploader(store, remote, contents, residents, conflicts, doubts, packer, committer)
    uploader.breaks.goes_in_pieces = remote.goes_in_pieces
    folders = FolderMaker(store, remote, conflicts, doubts, new_folders.made, lister.refresh_later, collect)
    mover = Mover(store, remote, uploader, conflicts, doubts)
    remover = Remover(
        store, remote, lister, residents, contents.files, contents.outgoing, doubts, uploader.tail_arrived
    )
    remover.is_held = guard.holds
    return Hands(
        Finder(store, remote, folders, mover, uploader, remover, takeover, doubts, collect),
        folders,
        uploader,
        BulkUploader(store, remote, packer, committer, doubts, looks),
        mover,
        remover,
    )


def guards(config: EngineConfig, store: Store, inbox: Inbox) -> tuple[VanishGuard, Restraint, Setback]:
    """Make what keeps much from vanishing at once, here and there; neither believes a server that was set back."""
    guard = VanishGuard(store, limit=config.delete_guard, released=inbox.start_afresh)
    restraint = Restraint(store, limit=config.delete_guard_server)

    def distrust(whether: bool) -> None:  # noqa: FBT001  # a callback
        guard.distrusted = restraint.distrusted = whether
        inbox.ring()

    setback = Setback(store, distrust, limit=config.delete_guard)
    distrust(setback.since is not None)
    return guard, restraint, setback


def hydrator_of(
    store: Store, disk: Disk, fetcher: Fetcher, tree: Tree, lister: Lister, watcher: Watcher, pause: Pause
) -> Hydrator:
    """Make what brings here what is always to be here."""
    walker = KeptWalker(store, disk.keeper, fetcher, is_another_there=store.is_observed)
    first = partial(lister.ensure_listed, reading=True)  # as programs that walk do: whole trees come then
    members = Members(tree.lookup, first, lister.refresh, lister.outdated)
    return Hydrator(
        store, disk.keeper, walker, fetcher, disk.blocks, members, pause.fetching, watched=watcher.covers
    )


def news_of(store: Store, worker: Worker, hydrator: Hydrator, *, names: bool) -> News:
    """Make what tells people of what succeeds."""
    news = News(store.nodes, names=names)
    worker.succeeded, hydrator.bringer.brought = news.done, news.brought
    return news


def watching(
    config: EngineConfig,
    store: Store,
    remote: GatedRemote,
    connectivity: Connectivity,
    lister: Lister,
    touches: TouchLog,
    echoes: Echoes,
    told: Callable[[bool], None],
) -> tuple[Watcher, Pusher]:
    """Put together who finds out what others change."""
    renewer = Renewer(store, remote, touches, lister)
    descent = Descent(store, remote, lister, renewer, ours=lambda: remote.changes)
    watcher = Watcher(
        descent.run,
        Pace(poll_s=config.poll_s, fresh_s=config.listing_ttl_s, used_s=3 * config.listing_ttl_s),
        possible=lambda: remote.features.deep_etags,
        not_before=lambda: connectivity.next_try,
        told=told,
        behind=lambda: descent.is_behind,
    )
    lister.watch = watcher
    descent.is_told = lambda: watcher.is_told
    return watcher, Pusher(store.nodes, remote, watcher, descent, echoes)


def locator(store: Store) -> Locate:
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


def space_of(quota: Quota, features: Features) -> Space:
    """Return what statfs tells, from memory.

    SOURCE: Nextcloud's QuotaPlugin, from 29 to 34, compares the whole length of a PUT, of pieces and of what they are
    put together to with what is free (measured for each of them on 29.0.1).
    """
    name_bytes = features.name_rules.new_file_bytes
    known = quota.space()
    if known is None:
        return Space(total=UNKNOWN_SPACE, free=UNKNOWN_SPACE, name_bytes=name_bytes, limited=False)
    return Space(
        total=known.free + known.used, free=known.free, name_bytes=name_bytes, whole=features.nextcloud
    )
