"""Plays the operations of two clients on one account, one of them this one, and judges what became of every content.

Every write of either client has bytes that no other write has, so a content is known by its bytes, and `ledger` holds
which of them must not be lost.

Two gaps are known, both of requests that can have no condition. A folder is deleted on the server in one: what the
other client puts into it between our last look and that request goes with it (into the server's trash). And small files
go up in bulk: what the other client puts under such a name meanwhile is overwritten (a version remains). Neither is
called lost here, where the look was made, and lately.

What is spent may come back (an edit here wins over a removal there): that is allowed. What nobody ever wrote may
never be seen: not by a read at any time, not in the end. And in the end both sides are the same, nothing is left over,
and there are conflicted copies only of names that both clients had to do with.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from cloudfs.errors import Changed, CloudfsError, LocalDamage, NotFound, PosixError, RemoteError
from cloudfs.metadata.tree import Tree as Nodes
from cloudfs.store.records import Node
from cloudfs.types import Ino
from cloudfs.vfs.records import HandleId
from tests.model.account import content_key
from tests.model.deciding import Deciding
from tests.model.fake_remote import FakeRemote
from tests.model.faults import Span
from tests.model.ledger import THIS_CLIENT, Contested, Ledger
from tests.model.noticing import expect_noticed
from tests.model.operations import (
    Answer,
    Append,
    Close,
    Decide,
    Drain,
    EmptyFor,
    Extend,
    Forget,
    Kill,
    KillSoon,
    LogIn,
    LoseLogin,
    Maintenance,
    Mkdir,
    Open,
    Operation,
    OtherMoveSeen,
    PlugIn,
    PushBreaks,
    Read,
    ReadFile,
    Refresh,
    Regret,
    Rename,
    Restart,
    Rewrite,
    Rmdir,
    Save,
    SaveByRename,
    SetTime,
    TruncateFile,
    Unlink,
    Unplug,
    Wait,
    Write,
)
from tests.model.other_client import OTHERS, OtherClient
from tests.model.outcome import Tree, expect_nothing_lost, shared
from tests.model.player import insist
from tests.model.rules import Rules
from tests.model.schedule import Death
from tests.model.shown import shown_by_open_file
from tests.model.virtual import run_virtually
from tests.model.world import World

__all__ = ["ROUNDS", "TwoClients", "play_two"]

STOCK: dict[str, bytes | None] = {"/a": b"stock of a", "/d": None, "/d/b": b"stock of d/b", "/d/e": None}
_OWN_SLOT = -1
"""Of an operation that opens and closes by itself."""
ROUNDS = 6
"""So often both sides tell each other what they have; then they have to be the same."""


@dataclass
class _Open:
    handle: HandleId
    ino: Ino
    writes: bool
    seen: bytes | None = None
    """What this handle read first: it may never read anything else, but for its own writes."""


class TwoClients:
    """One history on one world. `strict`: a conflicted copy where there can be no conflict is a failure."""

    def __init__(
        self,
        world: World,
        *,
        strict: bool = True,
        noticed_within_s: float | None = None,
        ledger: Ledger | None = None,
        contested: Contested | None = None,
        mark: str = "L",
    ) -> None:
        """`mark` begins each content that is written here: with one ledger for several mounts each has its own."""
        self.world = world
        self.ledger = ledger or Ledger()
        self.contested = contested or Contested()
        self._other = OtherClient(world, self.ledger, self.contested, lambda size: self._data(size, "O"))
        self._deciding = Deciding(world, self.ledger, lambda path: self._here(Extend(path, 5)))
        self._death = Death()
        self._strict = strict
        self._noticed_within_s = noticed_within_s
        self._mark = mark
        self._open: dict[int, _Open] = {}
        self._removed: set[Ino] = set()
        self._drawn = 0

    # Both clients

    async def stock(self) -> None:
        """Fill the server, and look at it if it can be seen."""
        self.fill()
        await self.look()

    def fill(self) -> None:
        """Put on the server what is there before anything is mounted."""
        for path, content in STOCK.items():
            if content is None:
                self.world.remote.other.mkdir(path)
            else:
                self.world.remote.other.write(path, content)
                self.ledger.wrote(content, "stock")

    async def look(self) -> None:
        """Begin, with a look at the server if it can be seen."""
        self._watch()
        with suppress(CloudfsError):
            await self.world.walk()

    async def play(self, operation: Operation) -> None:
        """Do one operation. It may fail as system calls and requests do; it may not damage anything."""
        begun = self.ledger.under_way()
        try:
            if isinstance(operation, OTHERS):
                self._other.play(operation)
            elif isinstance(operation, Restart | Kill | LogIn):
                await self._mount_again(operation)
            else:
                with self.world.living():
                    await self._here(operation)
        except PosixError:
            self.ledger.failed(begun)
        except RemoteError:
            pass
        except LocalDamage as error:
            raise AssertionError(str(error)) from error
        await self.come_alive()
        self.world.check_log()
        self.world.check_checksums(under_way=True)

    async def come_alive(self) -> bool:
        """Begin the next life after a sudden death; tell whether there was one."""
        was_dead = False
        while self.world.is_dead():
            was_dead = True
            self._open.clear()
            self.ledger.broke_off()
            await self._come_back()
            self._watch()
        return was_dead

    def be_safe(self) -> None:
        """From now on nothing dies suddenly."""
        self._death.disarm()

    async def _come_back(self) -> None:
        if self.world.unsure_since is not None:
            self.ledger.unsure(self.world.unsure_since)
            self.world.unsure_since = None
        await self.world.revive()

    async def finish(self) -> None:
        """Bring both sides together, and look for every content."""
        await self.end()
        if self._noticed_within_s is not None:
            await expect_noticed(self.world, self._noticed_within_s, self.drain)
        for _ in range(ROUNDS):
            await self.come_together()
            if await self.is_together():
                break
        mine = await self.ended()
        expect_nothing_lost([mine], [self.world.remote], self.ledger)
        unjustified = self.contested.unjustified(list(mine))
        assert not (self._strict and unjustified), (
            f"conflicts without a reason: {unjustified}; there is {mine}"
        )
        await self.clear_away()

    async def end(self) -> None:
        """No more changes here, and from now on everything is well."""
        self.be_safe()
        self.world.troubled = False
        self.world.remote.faults.stop()
        for slot in list(self._open):
            await self.play(Close(slot))
        await self.world.settle()

    async def come_together(self) -> None:
        """Send what is to be sent, then look at everything."""
        await self.drain()
        # A listing under way would be joined, and it may be older than the last change.
        await self.world.settle()
        if self.world.guards:
            with suppress(NotFound, Changed):  # what is held is listed, too; the next round answers
                await self.world.refresh_all()
        else:
            await insist(self.world.refresh_all)

    async def is_together(self) -> bool:
        """Tell whether nothing is left to be sent or answered, and the mount shows what the server has."""
        if self.world.unfinished() or self._waits_for_answer():
            return False
        seen = (await insist(self.world.walk)).attributes
        return shared(dict.fromkeys(seen)).keys() == {path[1:] for path in self.world.remote.other.tree()}

    async def ended(self) -> Tree:
        """Return what the mount shows in the end."""
        self.world.check_checksums()
        return await insist(self.world.tree)

    async def clear_away(self) -> None:
        """Nothing is left over."""
        self.world.check_log()
        await self.world.check_nothing_left()

    async def drain(self) -> None:
        """Wait until all is on the server; what misses its base for good is saved once more, as its user would."""
        for _ in range(ROUNDS if self.world.guards else 0):
            await self._answer(accept=True, made_here=True)
            await insist(lambda: self._answer(accept=True, made_here=False))
            if not any("cloudfs deletions" in trouble.next_step for trouble in await self.world.drain()):
                break
        troubles = await self.world.drain() + self.world.unreadable()
        for trouble in troubles:
            assert trouble.next_step.startswith("save the whole file once more"), trouble
            path = self.world.path_of(trouble.ino)
            if path is not None:
                await self._save(path, self._data(5, self._mark))
        if troubles:
            troubles = await self.world.drain() + self.world.unreadable()
        assert not troubles, troubles

    def _waits_for_answer(self) -> bool:
        deletions = self.world.engine.deletions
        return deletions.vanished() is not None or deletions.removed() is not None

    def _data(self, size: int, who: str) -> bytes:
        self._drawn += 1
        return f"{who}{self._drawn}".encode() + b"." * size

    # This client

    async def _here(self, operation: Operation) -> None:
        world = self.world
        match operation:
            case Save(path, size):
                await self._save(path, self._data(size, self._mark))
            case SaveByRename(path, size, beside):
                await self._save(beside, self._data(size, self._mark))
                await self._rename(Rename(beside, path))
            case Rename():
                await self._rename(operation)
            case Unlink(path):
                await world.unlink(path)
            case Mkdir(path):
                await world.mkdir(path)
            case Rmdir(path):
                await world.rmdir(path)
            case ReadFile(path):
                data = await world.read_file(path)
                assert self._is_known(data), f"{path} has what nobody wrote: {data!r}"
            case SetTime(path, mtime_s):
                await world.fs.setattr((await world.lookup(path)).ino, mtime_ns=mtime_s * 10**9)
            case Open(path, slot, writes):
                await self._open_slot(path, slot, writes=writes)
            case Rewrite() | Write() | Append() | TruncateFile() | Read() | Close():
                await self._by_handle(operation)
            case Extend(path, size):
                await self._open_slot(path, _OWN_SLOT, writes=True)
                try:
                    await self._by_handle(Append(_OWN_SLOT, size))
                finally:
                    await self._by_handle(Close(_OWN_SLOT))
            case _:
                await self._whole(operation)

    async def _rename(self, operation: Rename) -> None:
        self.contested.renamed(operation.source, operation.target)
        await self.world.rename(operation.source, operation.target, operation.mode)

    async def _mount_again(self, operation: Restart | Kill | LogIn) -> None:
        if isinstance(operation, Kill):
            self._open.clear()
            self.world.die()
            await self._come_back()
        else:
            for slot in list(self._open):
                await self.play(Close(slot))
            if isinstance(operation, LogIn):
                self.world.remote.faults.end(Span.REFUSES_LOGIN)
            await self.world.restart()
        self._watch()

    async def _whole(self, operation: Operation) -> None:
        world, faults = self.world, self.world.remote.faults
        match operation:
            case Answer(accept, made_here):
                await self._answer(accept=accept, made_here=made_here)
            case Regret(path, seconds):
                await world.unlink(path)
                await trio.sleep(seconds)
                await self._answer(accept=False, made_here=True)
            case Decide():
                await self._deciding.play(operation)
            case Forget():
                await world.forget()
            case Wait(seconds):
                await trio.sleep(seconds)
            case Refresh():
                await world.refresh_all()
            case OtherMoveSeen(source, target):
                await self._other.move_seen(source, target)
            case Drain():
                with trio.move_on_after(60):
                    await world.engine.worker.wait_synced(lambda _ino: True)
            case PlugIn():
                faults.end(Span.AWAY)
            case Unplug(seconds):
                faults.during(Span.AWAY, seconds)
            case Maintenance(seconds):
                faults.during(Span.MAINTENANCE, seconds)
            case EmptyFor(seconds):
                faults.during(Span.EMPTY, seconds)
                self._strict = False  # what looked deleted meanwhile, and was edited here, is made again
            case PushBreaks():
                world.remote.drop_listeners()
            case LoseLogin():
                faults.during(Span.REFUSES_LOGIN, math.inf)
            case KillSoon(steps):
                self._death.arm(steps, world.die)
            case _:
                raise AssertionError(f"{operation} is not for two clients")

    async def _answer(self, *, accept: bool, made_here: bool) -> None:
        deletions, nodes = self.world.engine.deletions, self.world.engine.store.nodes
        if accept and made_here:
            deletions.accept_removed()
        elif accept:
            await deletions.accept_vanished()
        elif made_here:
            await deletions.restore_removed()
            shown = {ino for ino in self._removed if (node := nodes.get(ino)) is not None and node.linked}
            self._removed -= shown
        else:
            for _, older in deletions._setback.kept():
                self.ledger.spent(self.world.remote.account.contents[content_key(older.version)])
            await deletions.restore_vanished()

    async def _open_slot(self, path: str, slot: int, *, writes: bool) -> None:
        if slot in self._open:
            await self.play(Close(slot))
        handle = await self.world.open(path, os.O_RDWR if writes else os.O_RDONLY)
        ino = self.world.fs._handles.file(handle).ino
        self._open[slot] = _Open(handle, ino, writes)

    async def _by_handle(self, operation: Rewrite | Write | Append | TruncateFile | Read | Close) -> None:
        opened = self._open.get(operation.slot)
        if opened is None:
            return
        match operation:
            case Rewrite() | Write() | Append() | TruncateFile():
                if opened.writes:
                    await self._change(opened.handle, opened.ino, operation)
                    for other in self._open.values():
                        # Handles of one inode may share one content, if they were opened on the same one.
                        if other.ino == opened.ino:
                            other.seen = None
            case Read():
                data = await self.world.read(opened.handle)
                assert self._is_known(data), f"a handle read {data!r}: nobody wrote that"
                assert opened.seen in {None, data}, f"a handle read {opened.seen!r}, then {data!r}"
                opened.seen = data
            case Close():
                del self._open[operation.slot]
                await self._close(opened.handle)

    async def _close(self, handle: HandleId) -> None:
        try:
            await self.world.fs.flush(handle)
        finally:
            await self.world.fs.release(handle)  # as the kernel does, whatever close(2) said

    async def _save(self, path: str, data: bytes) -> None:
        try:
            handle = await self.world.open(path, os.O_RDWR)
        except PosixError:
            handle = await self.world.create(path)
        try:
            await self._rewrite(handle, self.world.fs._handles.file(handle).ino, data)
            found = await self.world.read(handle)
            assert found == data, f"{path}: {data!r} was written, {found!r} is read"
        finally:
            await self._close(handle)

    async def _rewrite(self, handle: HandleId, ino: Ino, data: bytes) -> None:
        before = self._shown(handle)
        self.ledger.begins(before, [b"", data])
        await self.world.fs.setattr(ino, size=0, handle=handle)
        await self.world.write(handle, 0, data)
        await self._acknowledged(handle, ino, before, data)

    async def _change(
        self, handle: HandleId, ino: Ino, operation: Rewrite | Write | Append | TruncateFile
    ) -> None:
        if isinstance(operation, Rewrite):
            await self._rewrite(handle, ino, self._data(operation.size, self._mark))
            return
        before = self._shown(handle)
        if before is None:
            return  # nobody here can say what it will be
        if isinstance(operation, TruncateFile):
            after = before[: operation.size].ljust(operation.size, b"\0")
            self.ledger.begins(before, [after])
            await self.world.fs.setattr(ino, size=operation.size, handle=handle)
        else:
            data = self._data(operation.size, self._mark)
            at = operation.offset if isinstance(operation, Write) else len(before)
            after = before[:at].ljust(at, b"\0") + data + before[at + len(data) :]
            self.ledger.begins(before, [after])
            await self.world.write(handle, at, data)
        await self._acknowledged(handle, ino, before, after)

    async def _acknowledged(self, handle: HandleId, ino: Ino, before: bytes | None, after: bytes) -> None:
        await self.world.fs.flush(handle)
        await trio.lowlevel.checkpoint_if_cancelled()  # the dead acknowledge nothing
        self.ledger.ended()
        if before != after:
            self.ledger.spent(before)
            self.ledger.wrote(after, THIS_CLIENT, instead_of=before)
        if ino in self._removed:
            self.ledger.spent(after)  # the user had removed the file before

    def _is_known(self, content: bytes) -> bool:
        """Tell whether anybody wrote this, or the server made it of what we sent."""
        return self.ledger.is_known(content) or content in self.world.remote.parts

    def _shown(self, handle: HandleId) -> bytes | None:
        return shown_by_open_file(self.world, self.world.fs._handles.file(handle).content)

    # What is spent here

    def _watch(self) -> None:
        """Have the tree tell of every node that a system call removes or replaces."""
        tree, unlink = self.world.engine.tree, self.world.engine.tree._unlink_row

        def watched(node: Node, now: int) -> None:
            if not self.world.is_dead():
                self._removed.add(node.ino)
                self.ledger.spent(self._deciding.goes_with(node))
            unlink(node, now)

        assert isinstance(tree, Nodes)
        tree._unlink_row = watched  # type: ignore[method-assign]  # the one place where names go


def play_two(
    folder: Path,
    operations: Iterable[Operation],
    *,
    seed: int = 0,
    remote: FakeRemote,
    rules: Rules = Rules(),  # noqa: B008  # frozen
    instruments: Sequence[trio.abc.Instrument] = (),
    world_of: Callable[..., World] = World,
) -> None:
    """Play a whole history on a new world, then bring both sides together and judge."""

    async def history() -> None:
        if rules.offline_first:
            remote.faults.during(Span.AWAY, math.inf)
        async with world_of(
            folder / "0",
            remote,
            deadline_s=rules.deadline_s,
            together=rules.together,
            append_bytes=rules.append_bytes,
            held_from=rules.held_from,
            # Else an account that is emptied waits for an answer.
            delete_guard=rules.held_from or 0,
        ) as world:
            clients = TwoClients(world, strict=rules.strict, noticed_within_s=rules.noticed_within_s)
            await clients.stock()
            world.troubled = True
            for operation in operations:
                remote.trace(f"{trio.current_time():.3f} {operation}")
                await clients.play(operation)
            await clients.finish()

    run_virtually(history, seed, slow_disk=rules.slow_disk, instruments=instruments)
