"""One account at work, as the daemon offers it to the kernel and to the control socket.

`compose` puts it together from the account's settings; `Works` is all that the daemon knows of it.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Protocol

import msgspec
import trio

from cloudfs import config
from cloudfs.answers import Answers
from cloudfs.concurrency.links import watch_addresses
from cloudfs.concurrency.supervise import supervise
from cloudfs.control.methods import Method
from cloudfs.control.pinning import KeptState
from cloudfs.control.protocol import (
    Blocked,
    ConflictPair,
    Damaged,
    Decide,
    Decided,
    HeldDeletions,
    LoggedIn,
    Resolution,
    Side,
)
from cloudfs.control.records import Limits, Reloaded, Space, Transfer
from cloudfs.desktop.metered import watch_metered
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import ExitCode, Unreachable, UserError
from cloudfs.fuse.announcing import Names, Placed
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.operations import KernelCaching
from cloudfs.logins import Login
from cloudfs.metadata.changes import ChangeSink
from cloudfs.pinning import Pinning
from cloudfs.reloading import Reloader, cache_limits, kept_by
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.limiting import Traffic
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import context_of
from cloudfs.secrets.protocol import SecretStore
from cloudfs.secrets.stores import store_of
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.backlog import count_below
from cloudfs.sync.deletions import Held
from cloudfs.sync.resolve import Pair
from cloudfs.sync.throttling import Throttle
from cloudfs.sync.troubles import Trouble
from cloudfs.sync.worker import WorkerConfig
from cloudfs.types import Ino
from cloudfs.vault.opening import Opened

__all__ = ["Compose", "Facts", "Launch", "Works", "compose"]

_log = logging.getLogger(__name__)

_GREET_S = 10.0
_MEND_CHECKSUM = (
    "the checksum is out of date, as the same content came twice: save the file once more to renew it"
)
_MEND_WAY = (
    "read it again after ten minutes; where that does not help, the server's disk or a proxy has to be mended"
)


class Launch(msgspec.Struct, frozen=True):
    """One account, about to be mounted."""

    name: str
    account: config.Account
    folders: config.Folders
    opened: Opened | None = None
    """Its state and keys; None: plain, in the account's own folder."""


class Facts(msgspec.Struct, frozen=True):
    """What only the engine knows of a status."""

    state: str
    reason: str
    pending: int
    in_flight: int
    blocked: list[Blocked]
    conflicts: int
    cache_bytes: int
    pending_bytes: int = 0
    deletions: list[HeldDeletions] = []
    since: float | None = None
    damaged: list[Damaged] = []
    wipe_asked: bool = False
    changes: str = "on use"
    changes_since: float = 0.0
    paused_since: float | None = None
    transfers: list[Transfer] = []
    space: Space | None = None
    cache_limit_bytes: int = 0
    server: str = ""
    kept: KeptState = KeptState()
    limits: Limits = Limits()
    cache_hits: int = 0
    cache_misses: int = 0
    encrypted: str = ""


class Works(Protocol):
    """A composed engine, as far as the daemon needs it."""

    @property
    def filesystem(self) -> FileSystem:
        """What is mounted."""
        ...

    def facts(self) -> Facts:
        """Answer at once, from memory and the local database."""
        ...

    async def wait_synced(self, path: str) -> list[Blocked]:
        """Return once everything below `path` is on the server or blocked; UserError: no such path."""
        ...

    async def pending_below(self, path: str) -> int:
        """Count what is not on the server yet, in parts: programs go on meanwhile."""
        ...

    def in_flight(self) -> int:
        """Count the changes that are being sent; answers at once."""
        ...

    def conflicts(self) -> list[ConflictPair]:
        """Answer at once, from the local database."""
        ...

    async def resolve(self, path: str, decision: Resolution) -> None:
        """Carry out a decision about a conflict; UserError when nothing was done."""
        ...

    async def decide_deletions(self, wanted: Decide) -> Decided:
        """Carry out the answer about deletions that wait; UserError when none do."""
        ...

    async def log_in(self) -> LoggedIn:
        """Go on with the password that is kept now; UserError where it cannot be used."""
        ...

    @property
    def traffic(self) -> Traffic:
        """What went over the account's connections."""
        ...

    def reload(self) -> object:
        """Take over what the account's file says now; UserError BAD_CONFIG where it is wrong."""
        ...

    @property
    def methods(self) -> Mapping[str, Method]:
        """Requests that are answered from the engine alone, by name."""
        ...

    @property
    def names(self) -> Names | None:
        """The tree, for announcing what others change in it; None: nothing is announced."""
        ...


Compose = Callable[[Launch, ChangeSink, KernelCaching], AbstractAsyncContextManager[Works]]


@asynccontextmanager
async def compose(launch: Launch, changes: ChangeSink, caching: KernelCaching) -> AsyncIterator[Works]:
    """Open an account's engine: local state first, no request is sent. On leaving, everything is safe on disk.

    `caching` is lengthened while all changes of others are announced to `changes`. Without a password that can be read
    yet it begins all the same. Raises UserError where there will be none.
    """
    async with trio.open_nursery() as nursery:
        login = _login(launch)
        nursery.start_soon(partial(supervise, "login", login.run, chance=random.Random()))  # noqa: S311  # jitter
        await login.begin()
        async with _opened(launch, login, changes, caching) as works:
            yield works
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _opened(
    launch: Launch, login: Login, changes: ChangeSink, caching: KernelCaching
) -> AsyncIterator[Works]:
    account = launch.account
    traffic = Traffic()
    remote = WebdavRemote(_site(launch), login.secret, tls=context_of(account), traffic=traffic)
    try:
        async with (
            open_engine(
                _engine_config(launch),
                remote,
                changes,
                reconnect=remote.distrust_connections,
                network=watch_addresses,
                told=caching.rely,
                withheld=login.withheld,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            login.attach(remote, engine.connectivity, engine.greet)
            throttle = Throttle(traffic, engine.pause, account.bandwidth.rules())
            for name, run in (
                ("limits", throttle.run),
                ("metered connections", partial(watch_metered, throttle.tell_metered)),
            ):
                nursery.start_soon(partial(supervise, name, run, chance=random.Random()))  # noqa: S311  # jitter
            reloader = Reloader(engine, throttle, launch.folders, launch.name, account)
            yield _EngineWorks(engine, traffic, login, reloader)
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(2, shield=True):
            await remote.aclose()


def _login(launch: Launch) -> Login:
    def find() -> SecretStore:
        account = config.load_account(launch.folders, launch.name)
        return store_of(launch.folders, launch.name, account.secret_store)

    def stamp() -> object:
        with suppress(OSError):
            found = launch.folders.account_file(launch.name).stat()
            return found.st_ino, found.st_mtime_ns
        return None

    has_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return Login(find, stamp, may_prompt=has_screen)


def _site(launch: Launch) -> Site:
    account = launch.account
    try:
        features = msgspec.convert(account.features, Features)
    except msgspec.ValidationError as error:
        path = launch.folders.account_file(launch.name)
        raise UserError(
            f"{path}: features: {error}", hint="Log in again to have it rewritten.", code=ExitCode.BAD_CONFIG
        ) from error
    return Site(account.url, account.user, features, account.base_url or None, account.user_id or None)


def _engine_config(launch: Launch) -> EngineConfig:
    settings = launch.account.settings
    cache = launch.folders.account_cache(launch.name)
    size, keep_free = cache_limits(settings, cache)
    opened = launch.opened or Opened(launch.folders.account_state(launch.name), None)
    return EngineConfig(
        state=opened.folder,
        keys=opened.keys,
        cache=cache,
        cache_bytes=size,
        cache_keep_free_bytes=keep_free,
        memory_bytes=settings.memory_bytes,
        listing_ttl_s=settings.listing_ttl_s,
        poll_s=settings.poll_s,
        delete_guard=settings.delete_guard,
        delete_guard_server=settings.delete_guard_server,
        keep=kept_by(settings),
        worker=WorkerConfig(quiet_s=settings.quiet_s),
    )


class _TreeNames:
    """What is to be known of the tree to announce changes in it."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def placed(self, ino: Ino) -> Placed | None:
        return _placed(self._nodes.get(ino))

    def child(self, parent: Ino, name: str) -> Placed | None:
        return _placed(self._nodes.child(parent, name))

    def path(self, ino: Ino) -> str | None:
        return self._nodes.local_path(ino)

    def was_listed(self, folder: Ino) -> bool:
        node = self._nodes.get(folder)
        return node is not None and node.listed_at is not None


def _placed(node: Node | None) -> Placed | None:
    if node is None or node.parent is None:
        return None
    return Placed(node.ino, node.parent, node.name, node.kind, node.size, node.mtime_ns)


class _EngineWorks:
    """The engine in the daemon's words."""

    def __init__(self, engine: Engine, traffic: Traffic, login: Login, reloader: Reloader) -> None:
        self._engine = engine
        self._traffic = traffic
        self._login = login
        self._reloader = reloader
        self._answers = Answers(engine)
        self._pinning = Pinning(engine)

    @property
    def filesystem(self) -> FileSystem:
        return self._engine.filesystem

    @property
    def methods(self) -> Mapping[str, Method]:
        return {**self._answers.methods, **self._pinning.methods, **self._reloader.methods}

    @property
    def names(self) -> Names | None:
        return _TreeNames(self._engine.store.nodes)

    def facts(self) -> Facts:
        engine = self._engine
        cache = engine.blocks.statistics()
        return Facts(
            encrypted="" if engine.config.keys is None else engine.config.keys.cipher.value,
            state=engine.connectivity.state.value,
            reason=engine.connectivity.reason,
            pending=engine.store.nodes.count_dirty(),
            in_flight=self.in_flight(),
            blocked=[self._blocked(trouble) for trouble in engine.obstacles.all_blocked()],
            conflicts=len(engine.resolver.pairs()),
            cache_bytes=cache.bytes,
            pending_bytes=engine.store.nodes.bytes_to_send(),
            deletions=self._held(),
            since=engine.connectivity.since,
            damaged=self._damaged(),
            wipe_asked=engine.outages is not None and engine.outages.wipe_asked,
            changes=engine.watcher.channel.value,
            changes_since=engine.watcher.since,
            paused_since=engine.pause.since,
            transfers=self._answers.transfers(),
            space=self._answers.space(),
            cache_limit_bytes=cache.limit_bytes,
            server=engine.remote.features.name,
            kept=self._pinning.state(),
            limits=self._reloader.limits(),
            cache_hits=cache.hits,
            cache_misses=cache.misses,
        )

    async def wait_synced(self, path: str) -> list[Blocked]:
        if self._engine.tree.resolve(path) is None and not await self.pending_below(path):
            raise UserError(f"There is no {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE)
        await self._login.reread_if_refused(asked=True)
        if not self._engine.pause.sending.is_on or await self.pending_below(path):
            try:
                with self._engine.pause.sending.breakable(path):
                    troubles = await self._engine.worker.wait_synced(lambda ino: self._concerns(ino, path))
            except Unreachable as error:
                raise self._paused(await self.pending_below(path)) from error
        else:
            troubles = []
        return [self._blocked(trouble) for trouble in troubles]

    def _paused(self, pending: int) -> UserError:
        what = "1 change is" if pending == 1 else f"{pending:,} changes are"
        if self._engine.pause.sending.is_metered:
            return UserError(
                f"{what} not on the server: the connection is metered.",
                hint='It goes on with another one; `metered_up = "ignore"` in the account\'s file, too, lets it go on.',
                code=ExitCode.PENDING,
            )
        return UserError(
            f"{what} not on the server: sending is paused.",
            hint="`cloudfs resume` lets it go on.",
            code=ExitCode.PENDING,
        )

    async def pending_below(self, path: str) -> int:
        """Count the changes that are to go up; a file that was removed and is still open goes when it is closed."""
        return await count_below(self._engine.store.nodes, path, self._engine.obstacles.waits_for_program)

    def in_flight(self) -> int:
        return len(self._engine.worker.in_flight())

    def conflicts(self) -> list[ConflictPair]:
        return [self._conflict(pair) for pair in self._engine.resolver.pairs()]

    def _conflict(self, pair: Pair) -> ConflictPair:
        tree = self._engine.tree
        return ConflictPair(
            path=tree.path(pair.theirs.ino) or pair.theirs.name,
            copy=tree.path(pair.ours.ino) or pair.ours.name,
            found_at=pair.found_at,
            size=pair.theirs.size,
            copy_size=pair.ours.size,
            modified=pair.theirs.mtime_ns / 1e9,
            copy_modified=pair.ours.mtime_ns / 1e9,
        )

    async def resolve(self, path: str, decision: Resolution) -> None:
        resolver = self._engine.resolver
        match decision:
            case "keep-mine":
                await resolver.keep_mine(path)
            case "keep-theirs":
                await resolver.keep_theirs(path)
            case "keep-both":
                resolver.keep_both(path)

    def _damaged(self) -> list[Damaged]:
        engine = self._engine
        found = []
        for doubt in engine.fetcher.doubts():
            node = engine.store.nodes.get(doubt.ino)
            if node is None or not node.linked or node.s_version != doubt.version:
                continue  # removed, or the server has another version by now
            path = engine.tree.path(doubt.ino) or node.name
            step = _MEND_CHECKSUM if doubt.served else _MEND_WAY
            found.append(Damaged(path, doubt.said, doubt.came, doubt.served, step))
        return found

    def _held(self) -> list[HeldDeletions]:
        deletions = self._engine.deletions
        sides: list[tuple[Side, Held | None]] = [
            ("here", deletions.vanished()),
            ("server", deletions.removed()),
        ]
        return [
            HeldDeletions(side, held.count, held.paths, held.since, held.older, held.set_back)
            for side, held in sides
            if held
        ]

    async def decide_deletions(self, wanted: Decide) -> Decided:
        if wanted.side not in {held.side for held in self._held()}:
            raise UserError(
                "No deletions wait for an answer.",
                hint="`cloudfs status` tells when.",
                code=ExitCode.NOT_DONE,
            )
        deletions = self._engine.deletions
        match (wanted.side, wanted.decision):
            case ("here", "accept"):
                outcome = await deletions.accept_vanished()
            case ("here", _):
                outcome = await deletions.restore_vanished()
            case (_, "accept"):
                outcome = deletions.accept_removed()
            case _:
                outcome = await deletions.restore_removed()
        return Decided(outcome.done, outcome.left)

    async def log_in(self) -> LoggedIn:
        await self._login.reread()
        connectivity = self._engine.connectivity
        connectivity.logged_in()
        with trio.move_on_after(_GREET_S):
            await self._engine.greet()
        return LoggedIn(connectivity.state.value, connectivity.reason)

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    def reload(self) -> Reloaded:
        return self._reloader.reload()

    def _concerns(self, ino: Ino, path: str) -> bool:
        # The root takes everything, also what is deleted here and has no path in the mount any more.
        return path == "/" or self._engine.tree.is_inside(ino, path)

    def _blocked(self, trouble: Trouble) -> Blocked:
        path = self._engine.tree.path(trouble.ino) or trouble.name
        return Blocked(path, trouble.reason.removeprefix(f"{path}: "), trouble.next_step)
