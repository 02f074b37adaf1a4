"""One account at work, as the daemon offers it to the kernel and to the control socket.

`compose` puts it together from the account's settings; `Works` is all that the daemon knows of it.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from cloudfs import config
from cloudfs import log as logs
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
from cloudfs.control.records import Space, Transfer
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import ExitCode, Unreachable, UserError
from cloudfs.fuse.announcing import Names, Placed
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.operations import KernelCaching
from cloudfs.metadata.changes import ChangeSink
from cloudfs.metadata.pinning import Defaults
from cloudfs.paths import mount_path
from cloudfs.pinning import Pinning
from cloudfs.remote.connect import Site
from cloudfs.remote.files import WebdavRemote
from cloudfs.remote.protocol import Features
from cloudfs.remote.tls import make_context
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.backlog import count_below
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.deletions import Held
from cloudfs.sync.resolve import Pair
from cloudfs.sync.troubles import Trouble
from cloudfs.sync.worker import WorkerConfig
from cloudfs.types import Ino

__all__ = ["Compose", "Facts", "Launch", "Works", "compose"]

_log = logging.getLogger(__name__)

_GIGABYTE = 10**9
_FOLLOW_S = 5.0
"""How often a refused login looks for a new one; a file of a few bytes is read each time."""
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
    secret: str
    folders: config.Folders


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
        """Go on with what the secret file says now; UserError where it cannot be used."""
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

    `caching` is lengthened while all changes of others are announced to `changes`.
    """
    account = launch.account
    tls = make_context(Path(account.ca_file) if account.ca_file else None)
    remote = WebdavRemote(_site(launch), launch.secret, tls=tls)
    try:
        async with (
            open_engine(
                _engine_config(launch),
                remote,
                changes,
                reconnect=remote.distrust_connections,
                network=watch_addresses,
                told=caching.rely,
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            works = _EngineWorks(engine, _Login(launch, remote, engine.connectivity))
            follow = partial(supervise, "login", works.follow_login, chance=random.Random())  # noqa: S311  # jitter
            nursery.start_soon(follow)
            yield works
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(2, shield=True):
            await remote.aclose()


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
    disk = os.statvfs(cache)
    disk_bytes = disk.f_blocks * disk.f_frsize
    size, keep_free = settings.cache_size_bytes, settings.cache_keep_free_bytes
    return EngineConfig(
        state=launch.folders.account_state(launch.name),
        cache=cache,
        cache_bytes=min(disk_bytes // 10, 20 * _GIGABYTE) if size is None else size,
        cache_keep_free_bytes=max(disk_bytes // 20, _GIGABYTE) if keep_free is None else keep_free,
        memory_bytes=settings.memory_bytes,
        listing_ttl_s=settings.listing_ttl_s,
        poll_s=settings.poll_s,
        delete_guard=settings.delete_guard,
        delete_guard_server=settings.delete_guard_server,
        keep=Defaults(tuple(map(mount_path, settings.keep)), settings.keep_max_bytes),
        worker=WorkerConfig(quiet_s=settings.quiet_s),
    )


class _Login:
    """The password in use, and the file that it came from."""

    def __init__(self, launch: Launch, remote: WebdavRemote, connectivity: Connectivity) -> None:
        self._launch = launch
        self._remote = remote
        self._connectivity = connectivity
        self._secret = launch.secret

    def reread(self) -> bool:
        """Use what the file says now; True when that is another password. UserError where it cannot be used."""
        secret = config.read_secret(self._launch.folders, self._launch.name)
        if secret == self._secret:
            return False
        logs.hide(secret)
        self._secret = secret
        self._remote.use_password(secret)
        _log.info("going on with a new login")
        return True

    def reread_if_refused(self) -> bool:
        """Look for another password where the server refuses this one; True when everything goes on with it."""
        if self._connectivity.state is not State.NEEDS_LOGIN:
            return False
        try:
            changed = self.reread()
        except UserError as error:
            _log.debug("%s", error.message)
            return False
        if changed:
            self._connectivity.logged_in()
        return changed


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

    def __init__(self, engine: Engine, login: _Login) -> None:
        self._engine = engine
        self._login = login
        self._answers = Answers(engine)
        self._pinning = Pinning(engine)

    @property
    def filesystem(self) -> FileSystem:
        return self._engine.filesystem

    @property
    def methods(self) -> Mapping[str, Method]:
        return {**self._answers.methods, **self._pinning.methods}

    @property
    def names(self) -> Names | None:
        return _TreeNames(self._engine.store.nodes)

    def facts(self) -> Facts:
        engine = self._engine
        return Facts(
            state=engine.connectivity.state.value,
            reason=engine.connectivity.reason,
            pending=engine.store.nodes.count_dirty(),
            in_flight=self.in_flight(),
            blocked=[self._blocked(trouble) for trouble in engine.obstacles.all_blocked()],
            conflicts=len(engine.resolver.pairs()),
            cache_bytes=engine.blocks.statistics().bytes,
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
            cache_limit_bytes=engine.blocks.statistics().limit_bytes,
            server=engine.remote.features.name,
            kept=self._pinning.state(),
        )

    async def wait_synced(self, path: str) -> list[Blocked]:
        if self._engine.tree.resolve(path) is None and not await self.pending_below(path):
            raise UserError(f"There is no {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE)
        self._login.reread_if_refused()
        if not self._engine.pause.is_on or await self.pending_below(path):
            try:
                with self._engine.pause.breakable(path):
                    troubles = await self._engine.worker.wait_synced(lambda ino: self._concerns(ino, path))
            except Unreachable as error:
                raise _paused(await self.pending_below(path)) from error
        else:
            troubles = []
        return [self._blocked(trouble) for trouble in troubles]

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
        self._login.reread()
        connectivity = self._engine.connectivity
        connectivity.logged_in()
        with trio.move_on_after(_GREET_S):
            await self._engine.greet()
        return LoggedIn(connectivity.state.value, connectivity.reason)

    async def follow_login(self) -> None:
        """For ever: while the login is refused, notice by itself when the secret file has another."""
        while True:
            await trio.sleep(_FOLLOW_S)
            if self._login.reread_if_refused():
                await self._engine.greet()

    def _concerns(self, ino: Ino, path: str) -> bool:
        # The root takes everything, also what is deleted here and has no path in the mount any more.
        return path == "/" or self._engine.tree.is_inside(ino, path)

    def _blocked(self, trouble: Trouble) -> Blocked:
        path = self._engine.tree.path(trouble.ino) or trouble.name
        return Blocked(path, trouble.reason.removeprefix(f"{path}: "), trouble.next_step)


def _paused(pending: int) -> UserError:
    what = "1 change is" if pending == 1 else f"{pending:,} changes are"
    return UserError(
        f"{what} not on the server: sending is paused.",
        hint="`cloudfs resume` lets it go on.",
        code=ExitCode.PENDING,
    )
