"""Plays operations on a world and on the reference at once, and compares after each."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio

from cloudfs.errors import Changed, PosixError, RemoteError
from cloudfs.types import Ino
from cloudfs.vfs.records import HandleId, RenameMode
from tests.model.aftermath import Aftermath
from tests.model.fake_remote import FakeRemote
from tests.model.operations import (
    Append,
    Chmod,
    Close,
    Create,
    Drain,
    Extend,
    Flush,
    Forget,
    Fsync,
    Kill,
    KillSoon,
    Mkdir,
    Open,
    Operation,
    Read,
    ReadFile,
    Rename,
    Restart,
    Rmdir,
    Save,
    SaveByRename,
    SetTime,
    TakeBack,
    Truncate,
    TruncateFile,
    Unlink,
    Wait,
    Write,
)
from tests.model.reference import Reference, RefFile, RefFolder
from tests.model.rules import Rules
from tests.model.schedule import Death
from tests.model.virtual import run_virtually
from tests.model.world import World, expect_same

__all__ = ["Player", "play"]

T = TypeVar("T")

_TRIES = 300
_OWN_SLOT = -1

STOCK: dict[str, bytes | None] = {"/a": b"stock of a", "/d": None, "/d/b": b"stock of d/b", "/d/e": None}
"""What the server has before anything is mounted."""

_LENIENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL}
"""Where several things are wrong at once, POSIX leaves open which one is told."""


@dataclass
class _Open:
    handle: HandleId
    file: RefFile
    writes: bool


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat what failed for the line's sake: a program would, and the reference knows of no line."""
    for _ in range(_TRIES):
        try:
            return await call()
        except PosixError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
        except RemoteError as error:
            # Changed: a version that our own change replaced just before a kill; a listing tells, a new open gets it.
            if not error.temporary and not isinstance(error, Changed):
                raise
        await trio.sleep(1)
    raise AssertionError("the server stays away")


class Player:
    """One history on one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reference = Reference()
        self._death = Death()
        self._aftermath: Aftermath | None = None
        """Of the operation under way, where a death may come."""
        self._open: dict[int, _Open] = {}
        self._saved: dict[str, bytes] = {}
        """What was saved at each path the last time."""
        self._drawn = 0

    async def stock(self) -> None:
        """Fill the server and the reference with the same things."""
        for path, content in STOCK.items():
            if content is None:
                self.world.remote.other.mkdir(path)
                self.reference.add(path[1:], RefFolder())
            else:
                self.world.remote.other.write(path, content)
                self.reference.add(path[1:], RefFile(content))
        await insist(self.world.walk)

    async def play(self, operation: Operation) -> None:
        """Do one operation on both sides; both succeed or both fail."""
        if isinstance(operation, Restart):
            for slot in list(self._open):
                await self._alive(partial(self._do, Close(slot)))
            await self.world.restart()
        elif isinstance(operation, Kill):
            self.world.die()
        else:
            await self._alive(partial(self._do, operation))
        if self.world.is_dead():
            await self._recover(Aftermath(self.reference))
        while not await self._alive(self.check):
            pass

    async def _alive(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Do something; if a death breaks it off, go on with what is left, and return False."""
        self._aftermath = Aftermath(self.reference) if self._death.is_near else None
        with self.world.living():
            await act()
        if not self.world.is_dead():
            return True
        await self._recover(self._aftermath or Aftermath(self.reference))
        return False

    async def _recover(self, aftermath: Aftermath) -> None:
        """After a death: find out which of the states that it may have left there is, and go on from it."""
        aftermath.note(self.reference)
        self._aftermath = None
        self._open.clear()
        while self.world.is_dead():  # a death may come while the next life begins
            await self.world.revive()
        self._death.disarm()
        seen = await insist(self.world.walk)
        self.reference = aftermath.fitting({path: it.kind for path, it in seen.attributes.items()})
        for path, node in self.reference.nodes().items():
            found = await insist(partial(self.world.read_file, path)) if isinstance(node, RefFile) else None
            aftermath.settle(path, node, found, seen.attributes[path].permissions)

    async def finish(self) -> None:
        """Close everything, drain, compare everything byte for byte; nothing may be left over."""
        self._death.disarm()
        for slot in list(self._open):
            await self._do(Close(slot))
        await self.world.settle()
        await self._do(Drain())
        self.world.check_checksums()
        await self.world.check_nothing_left()

    async def check(self) -> None:
        """Names, kinds, sizes, modes and times that were set are those of the reference; nothing was logged."""
        seen, nodes = await insist(self.world.walk), self.reference.nodes()
        sizes = {
            path: None if isinstance(node, RefFolder) else len(node.content) for path, node in nodes.items()
        }
        expect_same(seen.shape(), sizes, "the mount shows")
        for path, node in nodes.items():
            found = seen.attributes[path]
            assert found.permissions == node.mode, f"{path} has mode {found.permissions:o}"
            if isinstance(node, RefFile) and node.mtime_ns is not None:
                assert found.mtime_ns == node.mtime_ns, f"{path} lost the time that was set"
        self.world.check_log()
        self.world.check_checksums(under_way=True)

    def _note(self) -> None:
        if self._aftermath is not None:
            self._aftermath.note(self.reference)

    def _data(self, size: int) -> bytes:
        """Return bytes that no other write of this history has."""
        self._drawn += 1
        return (f"{self._drawn}." * size)[:size].encode()

    async def _both(self, real: Callable[[], Awaitable[object]], model: Callable[[], object]) -> bool:
        """Do the same on both sides; True when both succeeded, an assertion when they disagree."""
        wanted: int | None = None
        try:
            model()
            self._note()
        except PosixError as error:
            wanted = error.errno
        found: int | None = None
        try:
            await insist(real)
        except PosixError as error:
            found = error.errno
        if wanted != found:
            assert {wanted, found} <= _LENIENT, f"errno {found}, expected {wanted}"
        return wanted is None

    async def _do(self, operation: Operation) -> None:
        world, reference = self.world, self.reference
        match operation:
            case Save(path, size):
                await self._save(path, self._data(size))
            case TakeBack(path, size, seconds):
                earlier = self._saved.get(path)
                if await self._save(path, self._data(size)) and earlier is not None:
                    await trio.sleep(seconds)
                    await self._save(path, earlier)
            case SaveByRename(path, size, beside):
                if await self._save(beside, self._data(size)):
                    await self._do(Rename(beside, path))
            case Extend(path, size):
                for part in (Open(path, _OWN_SLOT), Append(_OWN_SLOT, size), Close(_OWN_SLOT)):
                    await self._do(part)
            case Mkdir(path):
                await self._both(lambda: world.mkdir(path), lambda: reference.add(path, RefFolder()))
            case Rmdir(path):
                await self._both(lambda: world.rmdir(path), lambda: reference.rmdir(path))
            case Unlink(path):
                await self._both(lambda: world.unlink(path), lambda: reference.unlink(path))
            case Rename(source, target):
                await self._rename(operation, source, target)
            case Truncate() | SetTime() | Chmod() | ReadFile():
                await self._by_path(operation)
            case Create() | Open():
                await self._open_slot(operation)
            case Write() | Append() | TruncateFile() | Read() | Flush() | Fsync() | Close():
                opened = self._open.get(operation.slot)
                if opened is not None:
                    await self._by_handle(operation, opened)
            case Forget():
                await world.forget()
            case Wait(seconds):
                await trio.sleep(seconds)
            case Drain():
                await self._drain()
            case KillSoon(steps):
                self._death.arm(steps, world.die)

    async def _save(self, path: str, data: bytes) -> bool:
        self._saved[path] = data

        def save() -> None:
            try:
                file = self.reference.file(path)
            except PosixError as error:
                if error.errno != errno.ENOENT:
                    raise
                file = RefFile()
                self.reference.add(path, file)
            file.change(b"")
            file.change(data)
            self._note()
            file.flushed()

        return await self._both(lambda: self.world.save(path, data), save)

    async def _rename(self, operation: Rename, source: str, target: str) -> None:
        def rename() -> None:
            if operation.mode is RenameMode.EXCHANGE:
                self.reference.exchange(source, target)
            else:
                self.reference.rename(source, target, replace=operation.mode is RenameMode.REPLACE)

        await self._both(lambda: self.world.rename(source, target, operation.mode), rename)

    async def _by_path(self, operation: Truncate | SetTime | Chmod | ReadFile) -> None:
        world, path = self.world, operation.path
        try:
            node = self.reference.get(path)
            ino = (await insist(lambda: world.lookup(path))).ino
        except PosixError:
            return
        match operation:
            case ReadFile() if isinstance(node, RefFile):
                assert await insist(lambda: world.read_file(path)) == node.content
                node.flushed()
            case Truncate(size=size) if isinstance(node, RefFile):
                node.about_to_be(_resized(node.content, size))
                await world.fs.setattr(ino, size=size)
                if size != len(node.content):
                    node.change(_resized(node.content, size))
                node.flushed()
            case SetTime(mtime_s=mtime_s) if isinstance(node, RefFile):
                await world.fs.setattr(ino, mtime_ns=mtime_s * 10**9)
                self._note()
                node.mtime_ns = mtime_s * 10**9
                node.flushed()
            case Chmod(mode=mode):
                await world.fs.setattr(ino, permissions=mode)
                node.mode = mode
                self._note()
            case _:
                pass

    async def _open_slot(self, operation: Create | Open) -> None:
        if operation.slot in self._open:
            await self._do(Close(operation.slot))
        handles: list[HandleId] = []
        path = operation.path
        if isinstance(operation, Create):

            async def real() -> None:
                handles.append(await self.world.create(path))

            if await self._both(real, lambda: self.reference.add(path, RefFile())):
                self._open[operation.slot] = _Open(handles[0], self.reference.file(path), writes=True)
            return
        flags = os.O_RDWR if operation.writes else os.O_RDONLY
        truncate = operation.writes and operation.truncate

        async def really() -> None:
            handles.append(await self.world.open(path, flags | (os.O_TRUNC if truncate else 0)))

        def look() -> None:
            file = self.reference.file(path)
            if truncate:
                file.about_to_be(b"")

        if await self._both(really, look):
            file = self.reference.file(path)
            self._open[operation.slot] = _Open(handles[0], file, writes=operation.writes)
            if truncate and file.content:
                file.change(b"")

    async def _by_handle(
        self, operation: Write | Append | TruncateFile | Read | Flush | Fsync | Close, opened: _Open
    ) -> None:
        fs, handle, file = self.world.fs, opened.handle, opened.file
        match operation:
            case Read(offset=offset, size=size):
                assert (
                    await insist(lambda: fs.read(handle, offset, size))
                    == file.content[offset : offset + size]
                )
            case Write(offset=offset, size=size) if opened.writes:
                await self._write(opened, offset, self._data(size))
            case Append(size=size) if opened.writes:
                await self._write(opened, len(file.content), self._data(size))
            case TruncateFile(size=size) if opened.writes:
                file.about_to_be(_resized(file.content, size))
                await fs.setattr(await self._ino(opened), size=size, handle=handle)
                if size != len(file.content):
                    file.change(_resized(file.content, size))
            case Flush():
                await fs.flush(handle)
                file.flushed()
            case Fsync():
                await fs.fsync(handle, data_only=False)
                file.flushed()
            case Close():
                del self._open[operation.slot]
                await fs.flush(handle)
                await fs.release(handle)
                file.flushed()
            case _:
                pass

    async def _ino(self, opened: _Open) -> Ino:
        return self.world.fs._handles.file(opened.handle).ino

    async def _write(self, opened: _Open, offset: int, data: bytes) -> None:
        content = opened.file.content.ljust(offset, b"\0")
        content = content[:offset] + data + content[offset + len(data) :]
        opened.file.about_to_be(content)
        await insist(lambda: self.world.write(opened.handle, offset, data))
        opened.file.change(content)

    # Whole-world operations

    async def _drain(self) -> None:
        # What was unlinked goes from the server only when nobody has it open any more.
        shown = {id(node) for node in self.reference.nodes().values()}
        for slot, opened in list(self._open.items()):
            if id(opened.file) not in shown:
                await self._do(Close(slot))
        while (troubles := await self.world.drain()) and self.world.remote.faults.probability:
            await trio.sleep(1)  # a server that was full for one request
        assert not troubles, troubles
        expect_same(self.world.remote.other.tree(), self.reference.tree(on_server=True), "the server has")
        await self._compare_contents()
        for path, node in self.reference.nodes().items():
            if (
                isinstance(node, RefFile)
                and node.mtime_ns is not None
                and f"/{path}" in self.world.remote.other.tree()
            ):
                told = self.world.remote.other.mtime_s(f"/{path}") - node.mtime_ns // 10**9
                # One second is added where time and size are the base's.
                assert told in {0, 1}, f"{path}: the server has another time by {told} s"

    async def _compare_contents(self) -> None:
        expect_same(await insist(self.world.tree), self.reference.tree(), "the mount has")
        for node in self.reference.nodes().values():
            if isinstance(node, RefFile):
                node.flushed()  # every reader's close flushes the file


def _resized(content: bytes, size: int) -> bytes:
    return content[:size].ljust(size, b"\0")


def play(
    folder: Path,
    operations: Iterable[Operation],
    *,
    seed: int = 0,
    remote: Callable[[], FakeRemote] = FakeRemote,
    stocked: bool = True,
    rules: Rules = Rules(),  # noqa: B008  # frozen
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None:
    """Play a whole history on a new world, drain at its end, and compare everything."""

    async def history() -> None:
        async with World(
            folder / "0",
            remote(),
            deadline_s=rules.deadline_s,
            together=rules.together,
            append_bytes=rules.append_bytes,
        ) as world:
            player = Player(world)
            if stocked:
                await player.stock()
            for operation in operations:
                world.remote.trace(f"{trio.current_time():.3f} {operation}")
                await player.play(operation)
            world.remote.faults.stop()
            await player.finish()

    run_virtually(history, seed, slow_disk=rules.slow_disk, instruments=instruments)
