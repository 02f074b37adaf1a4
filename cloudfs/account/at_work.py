"""An engine in the daemon's words: `AtWork`, as it really is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import trio

from cloudfs.account.answers import Answers
from cloudfs.account.logins import Login
from cloudfs.account.pinning import Pinning
from cloudfs.account.protocol import Facts
from cloudfs.account.reloading import Reloader
from cloudfs.control.methods import Method
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
from cloudfs.control.records import Reloaded
from cloudfs.engine import Engine
from cloudfs.errors import CloudfsError, ExitCode, Unreachable, UserError
from cloudfs.fuse.announcing import Names, Placed
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.readers import Readers
from cloudfs.fuse.xattrs import Xattrs
from cloudfs.remote.limiting import Traffic
from cloudfs.store.nodes import Nodes
from cloudfs.store.records import Node
from cloudfs.sync.backlog import count_below
from cloudfs.sync.deletions import Held
from cloudfs.sync.resolve import Pair
from cloudfs.sync.troubles import Trouble
from cloudfs.types import ContentVersion, Ino

__all__ = ["EngineAtWork"]

_GREET_S = 10.0
_READERS = "readers"
_MEND_CHECKSUM = (
    "the checksum is out of date, as the same content came twice: save the file once more to renew it"
)
_MEND_WAY = (
    "read it again after ten minutes; where that does not help, the server's disk or a proxy has to be mended"
)


def _lacking(engine: Engine, ino: Ino) -> ContentVersion | None:
    """Return the version of a file of which something would have to be fetched; 30 µs."""
    node = engine.store.nodes.get(ino)
    if node is None or not node.size or node.version != node.s_version:
        return None  # what was written here is here
    return node.version if engine.blocks.held_bytes(ino, node.version) < node.size else None


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


class EngineAtWork:
    """The engine in the daemon's words."""

    def __init__(
        self, engine: Engine, traffic: Traffic, login: Login, reloader: Reloader, xattrs: Xattrs | None
    ) -> None:
        self.xattrs = xattrs
        self._engine = engine
        self._traffic = traffic
        self._login = login
        self._reloader = reloader
        self.readers = Readers(partial(_lacking, engine), engine.news.read)
        self.readers.restore(engine.store.note(_READERS) or "")
        self._answers = Answers(engine, self.readers)
        self._pinning = Pinning(engine)

    def keep_readers(self) -> None:
        """Remember across mounts who read what; nothing depends on it."""
        with suppress(CloudfsError):
            self._engine.store.put_note(_READERS, self.readers.packed())

    @property
    def filesystem(self) -> FileSystem:
        """What is mounted."""
        return self._engine.filesystem

    @property
    def methods(self) -> Mapping[str, Method]:
        """Requests that are answered from the engine alone."""
        return {**self._answers.methods, **self._pinning.methods, **self._reloader.methods}

    @property
    def names(self) -> Names | None:
        """The tree."""
        return _TreeNames(self._engine.store.nodes)

    def facts(self) -> Facts:
        """Look at the engine. NO CHECKPOINT."""
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
            wipe_asked=engine.outages is not None and engine.outages.wipe.is_set(),
            changes=engine.watcher.channel.value,
            changes_since=engine.watcher.since,
            paused_since=engine.pause.since,
            transfers=self._answers.transfers(),
            space=self._answers.space(),
            used_bytes=self._engine.quota.used_bytes,
            cache_limit_bytes=cache.limit_bytes,
            server=engine.remote.features.name,
            kept=self._pinning.state(),
            limits=self._reloader.limits(),
            cache_hits=cache.hits,
            cache_misses=cache.misses,
            untrusted=engine.connectivity.untrusted,
        )

    async def wait_synced(self, path: str) -> list[Blocked]:
        """Have all below a path sent now. Raises UserError where sending is paused."""
        if self._engine.tree.resolve(path) is None and not await self.pending_below(path):
            raise UserError(f"There is no {path} in the mount.", hint="Check the path.", code=ExitCode.USAGE)
        await self._login.reread_if_refused(asked=True)
        if not self._engine.pause.sending.is_on or await self.pending_below(path):
            try:
                with self._engine.pause.sending.breakable(path):
                    troubles = await self._engine.worker.wait_synced(
                        lambda ino: self._concerns(ino, path), settled=False
                    )
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
        """Count the steps under way."""
        return len(self._engine.worker.in_flight())

    def conflicts(self) -> list[ConflictPair]:
        """Return the pairs that wait for a decision."""
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
        """Have one decided."""
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
        """Carry out the answer. Raises UserError where nothing was asked."""
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
        """Read the password again, and greet the server; 10 s at most."""
        await self._login.reread()
        connectivity = self._engine.connectivity
        connectivity.logged_in()
        with trio.move_on_after(_GREET_S):
            await self._engine.greet()
        return LoggedIn(connectivity.state.value, connectivity.reason)

    async def wait_for_wipe(self) -> str:
        """Never returns on servers that know of no wipe."""
        if self._engine.outages is None:
            await trio.sleep_forever()
        else:
            await self._engine.outages.wipe.wait()
        return self._login.secret

    @property
    def traffic(self) -> Traffic:
        """What went over the connections."""
        return self._traffic

    def reload(self) -> Reloaded:
        """Read the account's file again."""
        return self._reloader.reload()

    def _concerns(self, ino: Ino, path: str) -> bool:
        # The root takes everything, also what is deleted here and has no path in the mount any more.
        return path == "/" or self._engine.tree.is_inside(ino, path)

    def _blocked(self, trouble: Trouble) -> Blocked:
        path = self._engine.tree.path(trouble.ino) or trouble.name
        return Blocked(path, trouble.reason.removeprefix(f"{path}: "), trouble.next_step)
