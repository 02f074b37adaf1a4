"""Servers that take files in bulk, and what is seen of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from cloudfs.remote.protocol import NewFile
from cloudfs.types import RemoteEntry, RemotePath, Stored
from tests.model.fake_remote import NEXTCLOUD, FakeRemote
from tests.sync.mount import World

__all__ = ["ONE_BY_ONE", "QUIET_S", "WITH_BULK", "Watched", "fill_older_folders", "kinds"]

WITH_BULK = msgspec.structs.replace(NEXTCLOUD, bulk=True)
ONE_BY_ONE = msgspec.structs.replace(WITH_BULK, depth_infinity=False)
"""Each folder has to be asked for by itself."""


def kinds(remote: FakeRemote) -> dict[str, int]:
    """Count the requests that bring something new."""
    lines = [line.split()[0] for line in remote.methods()]
    return {kind: lines.count(kind) for kind in ("make_folder", "put", "put_bulk")}


async def nothing() -> None:
    """Do nothing."""


@dataclass
class Watched(FakeRemote):
    """Does something once: while two bulk requests are on their way, or right after a folder or tree was looked at."""

    between: Callable[[], Awaitable[None]] | None = None
    after_look: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    second: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    bulks: int = 0

    async def put_bulk(self, files: Sequence[NewFile]) -> Sequence[Stored | None]:
        self.bulks += 1
        if self.between is None:
            return await super().put_bulk(files)
        if self.bulks > 1:
            self.second.set()
            await self.over.wait()
            return await super().put_bulk(files)
        stored = await super().put_bulk(files)
        await self.second.wait()
        await self.between()
        self.over.set()
        return stored

    async def list_folder(self, path: RemotePath) -> tuple[RemoteEntry, Sequence[RemoteEntry]]:
        seen = await super().list_folder(path)
        await self.after_look.pop(path, nothing)()
        return seen

    async def list_tree(
        self, path: RemotePath, *, most: int, begun: Callable[[], None] = lambda: None
    ) -> Sequence[tuple[RemoteEntry, Sequence[RemoteEntry]]]:
        seen = await super().list_tree(path, most=most, begun=begun)
        await self.after_look.pop(path, nothing)()
        return seen


QUIET_S = 6.0
"""So long a story with `fill_older_folders` has files left alone: our own listings are too old by then."""


async def fill_older_folders(world: World) -> None:
    """Make two folders, and a minute later, when they have to be looked at again, put files into both."""
    await world.mkdir("a")
    await world.mkdir("b")
    await world.drain()
    await trio.sleep(60)
    for number in range(10):
        await world.save(f"a/{number}", b"a")
        await world.save(f"b/{number}", b"b")
    await trio.sleep(QUIET_S / 2)  # our own listings are over
