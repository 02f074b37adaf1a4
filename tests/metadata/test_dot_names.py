"""Names with a dot, on a server that leaves them out of its listings and does not want to be asked for them either."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Forbidden, RemoteError, Unsupported
from cloudfs.types import ROOT, RemoteEntry, RemotePath
from tests.metadata.world import file, folder, open_metadata


@pytest.mark.parametrize("error", [Unsupported, Forbidden])
async def test_one_that_cannot_be_looked_at_takes_no_listing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: type[RemoteError]
) -> None:
    """A rule before the server (nginx: `deny all`): what others made beside it never showed."""
    del autojump_clock
    async with open_metadata(tmp_path, ttl_s=5) as room:
        room.remote.set("/", folder("/f"))
        room.remote.set("/f", file("/f/.a"), file("/f/b"))
        await room.lister.ensure_listed(ROOT)
        inner = room.shown()["f"].ino
        await room.lister.ensure_listed(inner)
        assert set(room.shown(inner)) == {".a", "b"}

        async def stat(path: RemotePath) -> RemoteEntry:
            await trio.lowlevel.checkpoint()
            raise error("refused", subject=path, status=405)

        monkeypatch.setattr(room.remote, "stat", stat, raising=False)
        room.remote.set("/f", file("/f/b"), file("/f/new"))
        await trio.sleep(60)
        await room.lister.ensure_listed(inner)
        await trio.sleep(1)
        assert set(room.shown()) == {"f"}
        assert set(room.shown(inner)) == {"b", "new"}
