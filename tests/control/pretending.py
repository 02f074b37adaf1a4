"""A daemon with the real kernel adapter, control socket and life cycle over an engine that pretends.

`python -m tests.control.pretending ACCOUNT MOUNTPOINT [--ready-fd N]`, like `cloudfs.daemon`. What it pretends
is read from the account's `[features]`: pending, blocked, crash.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

import trio

from cloudfs.account.protocol import AtWork, Facts, Launch
from cloudfs.control.methods import Method
from cloudfs.control.protocol import Blocked, ConflictPair, Decide, Decided, LoggedIn, Resolution
from cloudfs.daemon import process
from cloudfs.errors import ExitCode, LocalDamage, UserError
from cloudfs.fuse.filesystem import FileSystem
from cloudfs.fuse.operations import KernelCaching
from cloudfs.metadata.changes import ChangeSink
from cloudfs.remote.limiting import Traffic
from cloudfs.types import ROOT
from tests.fuse.memory_filesystem import MemoryFileSystem


class PretendedWorks:
    def __init__(self, pending: int, blocked: list[Blocked]) -> None:
        self._filesystem = MemoryFileSystem()
        self._filesystem.add(ROOT, "hello.txt", b"hello world\n")
        self._pending = pending
        self._blocked = blocked

    @property
    def filesystem(self) -> FileSystem:
        return self._filesystem

    @property
    def xattrs(self) -> None:
        return None

    @property
    def readers(self) -> None:
        return None

    @property
    def names(self) -> None:
        return None

    def facts(self) -> Facts:
        return Facts("online", "", self._pending, 0, self._blocked, 0, 4096)

    async def wait_synced(self, path: str) -> list[Blocked]:
        if path == "/never":
            await trio.sleep_forever()
        if path == "/none":
            raise UserError("There is no /none in the mount.")
        if path == "/bug":
            raise ZeroDivisionError
        await trio.sleep(0.05)
        self._pending = len(self._blocked)
        return self._blocked

    def conflicts(self) -> list[ConflictPair]:
        return []

    async def resolve(self, path: str, decision: Resolution) -> None:
        raise UserError(f"{path} is in no conflict.", hint=decision, code=ExitCode.NOT_DONE)

    async def log_in(self) -> LoggedIn:
        return LoggedIn("online")

    async def wait_for_wipe(self) -> str:
        return await trio.sleep_forever()

    @property
    def traffic(self) -> Traffic:
        return Traffic()

    def reload(self) -> None:
        print("reloaded", flush=True)

    async def decide_deletions(self, wanted: Decide) -> Decided:
        raise UserError("No deletions wait for an answer.", hint=wanted.side, code=ExitCode.NOT_DONE)

    @property
    def methods(self) -> Mapping[str, Method]:
        return {}

    async def pending_below(self, path: str) -> int:
        return self._pending if path == "/" else 0

    def in_flight(self) -> int:
        return 0


@asynccontextmanager
async def pretend(launch: Launch, _changes: ChangeSink, _caching: KernelCaching) -> AsyncIterator[AtWork]:
    """Compose an engine as told in the account's file."""
    told = launch.account.features
    if told.get("crash") == "start":
        raise LocalDamage("the database is broken")
    blocked = [Blocked("/a.txt", "no space", "make some")] if told.get("blocked") else []
    async with trio.open_nursery() as nursery:
        if told.get("crash") == "later":
            nursery.start_soon(_crash)
        yield PretendedWorks(cast("int", told.get("pending", 0)), blocked)
        nursery.cancel_scope.cancel()


async def _crash() -> None:
    await trio.sleep(1)
    raise ZeroDivisionError


if __name__ == "__main__":
    sys.exit(process.main(compose=pretend))
