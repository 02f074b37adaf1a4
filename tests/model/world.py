"""A mount over a server in memory, its kernel, and a process that can be stopped or killed.

`World` speaks paths, as programs do, and turns them into inodes as the kernel does: with lookups that it counts
(`Kernel`), one handle per open. A kill copies the state folder as it is at that moment (what SQLite and the file
system got by then is what a killed process leaves) and goes on with the copy.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

import trio

from cloudfs.blocks.sealing import Keys
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import CloudfsError, PosixError
from cloudfs.metadata.changes import ChangeSink, NullSink
from cloudfs.metadata.vanished import KEEP_S
from cloudfs.sync.appending import FROM_BYTES
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.sync.troubles import Trouble
from cloudfs.types import ROOT, Ino, Kind
from cloudfs.vfs.filesystem import FileSystem
from cloudfs.vfs.records import Attributes, HandleId, RenameMode
from tests.model.bounded import Bounded
from tests.model.fake_remote import FakeRemote

__all__ = ["Seen", "World", "expect_same"]

_QUICK_S = 15.0
_DRAIN_S = 7200.0
"""Virtual: longer than any back-off."""


class _Errors(logging.Handler):
    """Gathers what cloudfs logs as an error: in a model run each is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


def expect_same(found: Mapping[str, object], expected: Mapping[str, object], what: str) -> None:
    """Fail with what differs."""
    wrong = [
        f"{key}: {found.get(key, 'nothing')!r}, expected {expected.get(key, 'nothing')!r}"
        for key in sorted({*found, *expected})
        if found.get(key, ...) != expected.get(key, ...)
    ]
    assert not wrong, f"{what}: " + "; ".join(wrong)


class Seen:
    """What one walk over the mount found."""

    def __init__(self) -> None:
        self.attributes: dict[str, Attributes] = {}

    def shape(self) -> dict[str, int | None]:
        """Return sizes by path, None for folders."""
        return {path: None if it.kind is Kind.FOLDER else it.size for path, it in self.attributes.items()}


class World:
    """One account mounted. Paths are relative, "" is the root."""

    keys: Keys | None = None
    """What is kept on the disk is sealed with these."""
    forgiven: re.Pattern[str] | None = None
    """What may be logged as an error."""
    troubled = False
    """What is wrong with this machine may show."""
    unsure_since: float | None = None
    """What was written from then on (trio s), and not sent, may have gone with the last death."""

    def __init__(
        self,
        folder: Path,
        remote: FakeRemote,
        *,
        quiet_s: float = 1.0,
        ttl_s: float = 5.0,
        deadline_s: float | None = None,
        together: int = 4,
        sink: ChangeSink | None = None,
        poll_s: float = 30.0,
        append_bytes: int = FROM_BYTES,
        held_from: int | None = None,
        **more: Any,
    ) -> None:
        """`more` are fields of EngineConfig."""
        self.folder = folder
        self._more = more
        self._sink = sink or NullSink()
        self._poll_s = poll_s
        self._append_bytes = append_bytes
        self.guards = (
            {} if held_from is None else {"delete_guard": held_from, "delete_guard_server": held_from}
        )
        self.remote = remote
        self._deadline_s = deadline_s
        self._quiet_s = quiet_s
        self._ttl_s = ttl_s
        self._together = together
        self._lives = 0
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._known: Counter[Ino] = Counter()
        self._errors = _Errors()
        self._fs: FileSystem | None = None
        self._life = trio.CancelScope()
        self._left: tuple[FakeRemote, Path] | None = None
        """After a death: what is to be gone on with."""

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "nothing is mounted"
        return self._engine

    @property
    def staging(self) -> Path:
        """Where the bytes are that the server does not have yet."""
        return self.folder / "state" / f"staging-{self.engine.store.store_id}"

    @property
    def fs(self) -> FileSystem:
        """The file system; within the kernel boundary's deadline, where the world has one."""
        if self._deadline_s is None:
            return self.engine.filesystem
        if self._fs is None:
            self._fs = cast("FileSystem", Bounded(self.engine.filesystem, self._deadline_s))
        return self._fs

    # Lives

    def hear_with(self, other: World) -> None:
        """Gather what is logged as an error together: nobody can tell which of them it comes from."""
        self._errors = other._errors

    async def __aenter__(self) -> Self:
        logging.getLogger("cloudfs").addHandler(self._errors)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        logging.getLogger("cloudfs").removeHandler(self._errors)
        await self._stop()

    async def start(self) -> None:
        """Mount."""
        for name in ("state", "cache"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        more: dict[str, Any] = {"cache_bytes": 64 * 1024 * 1024, "cache_keep_free_bytes": 0}
        more |= {"keys": self.keys} | self.guards | self._more
        config = EngineConfig(
            state=self.folder / "state",
            cache=self.folder / "cache",
            listing_ttl_s=self._ttl_s,
            poll_s=self._poll_s,
            append_bytes=self._append_bytes,
            worker=WorkerConfig(
                quiet_s=self._quiet_s, open_quiet_s=self._quiet_s * 4, together=self._together
            ),
            **more,
        )
        self._engine = await self._begin(config)
        self._known.clear()

    async def _begin(self, config: EngineConfig) -> Engine:
        return await self._stack.enter_async_context(open_engine(config, self.remote, self._sink))

    async def _end(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def _stop(self) -> None:
        await self._end()
        self._engine, self._fs = None, None

    async def restart(self) -> None:
        """Unmount and mount again. Handles are gone."""
        await self._stop()
        await self.start()

    async def kill(self) -> None:
        """Die without a word, and start again on what is left."""
        self.die()
        await self.revive()

    @contextmanager
    def living(self) -> Iterator[None]:
        """Do something that a death breaks off where it stands."""
        with trio.CancelScope() as self._life:
            yield

    def is_dead(self) -> bool:
        """Tell whether a death waits for its `revive`."""
        return self._left is not None

    def die(self) -> None:
        """Keep the folder as it is at this moment; what the old process still does reaches nobody."""
        if self._left is not None:
            return
        self._lives += 1
        left = self.folder.with_name(f"{self.folder.name.partition('.')[0]}.{self._lives}")
        shutil.copytree(self.folder, left)
        self._left = self.remote.kill(), left
        self._life.cancel()
        self.remote.trace(f"{trio.current_time():.3f} died")

    async def revive(self) -> None:
        """Start again on what a death left."""
        assert self._left is not None, "nobody died"
        (self.remote, left), dead = self._left, self.folder
        await self._stop()
        self._left = None
        self._errors.texts.clear()
        shutil.rmtree(dead)
        self.folder = left
        await self.start()

    # The kernel's part

    async def lookup(self, path: str) -> Attributes:
        """Return what a path means, by lookups from the root."""
        found = await self.fs.getattr(ROOT)
        for name in filter(None, path.split("/")):
            if found.kind is Kind.FILE:
                raise PosixError(errno.ENOTDIR, path)
            found = await self.fs.lookup(found.ino, name.encode())
            self._remember(found.ino)
        return found

    def _remember(self, ino: Ino) -> None:
        self.fs.remember(ino)
        self._known[ino] += 1

    async def forget(self) -> None:
        """Drop every cached entry, as under memory pressure."""
        known, self._known = self._known, Counter()
        for ino, count in known.items():
            await self.fs.forget(ino, count)

    async def _parent(self, path: str) -> tuple[Ino, bytes]:
        above, _, name = path.rpartition("/")
        folder = await self.lookup(above)
        if folder.kind is Kind.FILE:
            raise PosixError(errno.ENOTDIR, path)
        return folder.ino, name.encode()

    # System calls

    async def create(self, path: str) -> HandleId:
        """open(2) with O_CREAT | O_EXCL | O_RDWR."""
        parent, name = await self._parent(path)
        opened, attributes = await self.fs.create(parent, name, 0o644, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._remember(attributes.ino)
        return opened.handle

    async def open(self, path: str, flags: int) -> HandleId:
        """open(2) of something that exists."""
        return (await self.fs.open((await self.lookup(path)).ino, flags)).handle

    async def mkdir(self, path: str) -> None:
        """mkdir(2)."""
        parent, name = await self._parent(path)
        self._remember((await self.fs.mkdir(parent, name, 0o755)).ino)

    async def unlink(self, path: str) -> None:
        """unlink(2)."""
        await self.fs.unlink(*await self._parent(path))

    async def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        await self.fs.rmdir(*await self._parent(path))

    async def rename(self, source: str, target: str, mode: RenameMode = RenameMode.REPLACE) -> None:
        """renameat2(2); the kernel looks both names up first, and answers for a name that must be free."""
        here = await self._parent(source)
        there = await self._parent(target)
        await self.lookup(source)
        if mode is RenameMode.NO_REPLACE and await self._exists(target):
            raise PosixError(errno.EEXIST, target)
        await self.fs.rename(*here, *there, mode)

    async def _exists(self, path: str) -> bool:
        try:
            await self.lookup(path)
        except PosixError:
            return False
        return True

    async def write(self, handle: HandleId, offset: int, data: bytes) -> None:
        """pwrite(2)."""
        assert await self.fs.write(handle, offset, data) == len(data)

    async def read_file(self, path: str) -> bytes:
        """open, read to the end, close."""
        handle = await self.open(path, os.O_RDONLY)
        try:
            return await self.read(handle)
        finally:
            await self.fs.flush(handle)
            await self.fs.release(handle)

    async def read(self, handle: HandleId) -> bytes:
        """Read a whole open file in pieces."""
        data = b""
        while piece := await self.fs.read(handle, len(data), 128 * 1024):
            data += piece
        return data

    async def save(self, path: str, data: bytes) -> None:
        """Write a whole file as `echo > path` does."""
        try:
            handle = await self.open(path, os.O_WRONLY | os.O_TRUNC)
        except PosixError as error:
            if error.errno != errno.ENOENT:
                raise
            handle = await self.create(path)
        try:
            await self.write(handle, 0, data)
        finally:
            await self.fs.flush(handle)
            await self.fs.release(handle)

    # Looking from outside

    async def walk(self) -> Seen:
        """Walk over the mount."""
        seen = Seen()
        await self._walk(seen, ROOT, "")
        return seen

    async def _walk(self, seen: Seen, folder: Ino, above: str) -> None:
        handle = await self.fs.open_folder(folder)
        entries = list(await self.fs.read_folder(handle, 0))
        await self.fs.release_folder(handle)
        for entry in entries:
            path = above + entry.name
            assert path not in seen.attributes, f"{path} is listed twice"
            seen.attributes[path] = entry.attributes
            if entry.attributes.kind is Kind.FOLDER:
                await self._walk(seen, entry.attributes.ino, path + "/")

    async def tree(self) -> dict[str, bytes | None]:
        """Return everything that the mount shows, by absolute path; None for folders."""
        seen = await self.walk()
        return {
            f"/{path}": None if it.kind is Kind.FOLDER else await self.read_file(path)
            for path, it in seen.attributes.items()
        }

    # The end of all work

    async def drain(self) -> list[Trouble]:
        """Wait until everything is on the server; return what cannot go up."""
        with trio.move_on_after(_DRAIN_S) as limit:
            troubles = await self.engine.worker.wait_synced(lambda _ino: True)
        assert not limit.cancelled_caught, f"still not on the server: {self.unfinished()}"
        return troubles

    def unreadable(self) -> list[Trouble]:
        """Return what never goes up and lost what it was made from."""
        nodes = self.engine.store.nodes
        blocked = self.engine.obstacles.all_blocked()
        return [it for it in blocked if (node := nodes.get(it.ino)) is not None and node.local_only]

    async def refresh_all(self) -> None:
        """List every folder anew, those that appear by that too."""
        level = [ROOT]
        while level:
            for ino in level:
                await self.engine.lister.refresh(ino)
            nodes = self.engine.store.nodes
            level = [
                child.ino for ino in level for child in nodes.children(ino) if child.folder and child.synced
            ]

    async def refresh_together(self) -> None:
        """List every known folder anew, all at the same moment; what cannot be listed now stays as it is."""

        async def refresh(ino: Ino) -> None:
            with suppress(CloudfsError):
                await self.engine.lister.refresh(ino)

        async with trio.open_nursery() as nursery:
            for ino in self.engine.store.nodes.listed_folders():
                nursery.start_soon(refresh, ino)

    async def settle(self) -> None:
        """Wait until what is under way has ended: by itself, or because a client gives up what hangs."""
        remote = self.remote
        await trio.sleep(_QUICK_S + (remote.patience_s + remote.late_s if remote.faults.happened else 0.0))

    def path_of(self, ino: Ino) -> str | None:
        """Return where the mount shows a node."""
        names: list[str] = []
        while ino != ROOT:
            node = self.engine.store.nodes.get(ino)
            if node is None or node.parent is None:
                return None
            names.append(node.name)
            ino = node.parent
        return "/".join(reversed(names))

    def unfinished(self) -> list[str]:
        """Describe the nodes with work for the server, and why it is not done."""
        troubles = self.engine.worker.troubles
        return [f"{node} {troubles.of(node.ino)}" for node in self.engine.store.nodes.dirty()]

    def check_log(self) -> None:
        """No step failed in an unexpected way, nothing was damaged."""
        texts = [it for it in self._errors.texts if not (self.forgiven and self.forgiven.search(it))]
        assert not texts, "\n".join(texts)

    def check_checksums(self, *, under_way: bool = False) -> None:
        """Every checksum that the server keeps is that of the bytes beside it.

        `under_way`: but of a file whose overwrite was cut, which the server leaves so until it is repeated.
        """
        for entry in self.remote.account.walk():
            found, checksum = self.remote.account.get(entry.path), entry.version.checksum
            if checksum is not None and not (under_way and found.cut):
                digest = hashlib.sha1(found.content, usedforsecurity=False).hexdigest()
                assert checksum == f"SHA1:{digest}", f"{entry.path} has the checksum of something else"

    def _has_old_layers_kept_here(self) -> bool:
        store = self.engine.store
        here = {node.ino for node in store.nodes.descendants(ROOT) if node.local_only}
        kept = self._kept_here()
        return any(row.ino in here and f"{row.ino}.{row.version}" not in kept for row in store.all_staged())

    def _kept_here(self) -> set[str]:
        """Return the staging files of what never goes up: they stay as long as the mount shows it."""
        store, kept = self.engine.store, set[str]()
        for node in store.nodes.descendants(ROOT):
            version = node.version
            while node.local_only and (row := store.staged(node.ino, version)) is not None:
                kept.add(f"{node.ino}.{version}")
                version = row.base  # written over in part, it stands on what it was before
        return kept

    async def check_nothing_left(self) -> None:
        """With no handle open, no entry cached and everything drained: no row and no file is left over."""
        await self.forget()
        await trio.sleep(
            2 * KEEP_S
        )  # what the server took away is kept for a moment: it may only have been moved
        await self.settle()  # staging files are deleted in the background
        if self._has_old_layers_kept_here():
            # What nobody sends is given up by nobody's upload: it goes at the next start.
            await self.restart()
            await self.settle()
        store = self.engine.store
        assert not self.unfinished(), self.unfinished()
        left = {
            table: store.db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  # our own names
            for table in ("staged", "observed", "attempts")
        }
        kept = self._kept_here()
        left["staged"] = [row for row in left["staged"] if f"{row[0]}.{row[1]}" not in kept]
        # An upload of such a file may have been cut by its new name: the attempt stays for the case that it comes back.
        homely = {node.ino for node in store.nodes.descendants(ROOT) if node.local_only}
        left["attempts"] = [row for row in left["attempts"] if row[0] not in homely]
        left["files"] = sorted({path.name for path in (self.folder / "state").glob("staging-*/*")} - kept)
        left["unlinked"] = store.db.execute("SELECT * FROM nodes WHERE parent IS NULL").fetchall()
        expect_same(left, {key: [] for key in left}, "left over")
        assert self.engine.worker.in_flight() == []
