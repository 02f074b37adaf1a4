"""What is refused while it is fetched ahead: nobody asked for it, so it is no surprise, and no line in the log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloudfs.errors import Forbidden
from cloudfs.types import RemotePath, RemoteVersion
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.sync.mount import World, tell

READ, REFUSED = range(4), range(4, 30)


class Refusing(FakeRemote):
    refused = 0

    @asynccontextmanager
    async def stream(
        self, path: RemotePath, start: int, stop: int, expect: RemoteVersion
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if int(path[-2:]) in REFUSED:
            self.refused += 1
            raise Forbidden("access control", subject=path, status=403)
        async with super().stream(path, start, stop, expect) as chunks:
            yield chunks


def test_small_files_one_by_one(tmp_path: Path) -> None:
    """Two at a time, in a nursery, where the server makes no archive."""
    remote = Refusing()
    remote.other.mkdir("/d")
    for number in (*READ, *REFUSED):
        remote.other.write(f"/d/{number:02}", b"content %d" % number)

    async def story(world: World) -> None:
        await world.walk()
        remote.faults.next("read_archive", [FaultKind.FAULT] * 10)
        for number in READ:
            assert await world.read_file(f"d/{number:02}") == b"content %d" % number
        assert 0 < remote.refused <= 2, "one refusal ends it"

    tell(tmp_path, story, remote)
