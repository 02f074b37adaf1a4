"""How far uploads and downloads are, as the status shows it."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.sync.sending import Sent, Uploads
from tests.functional.drivers import read
from tests.functional.stages import USER, VfsStage
from tests.servers import Hold, StandIn

MIB = 1 << 20


class Chunks:
    def __init__(self, chunks: list[bytes]) -> None:
        self.closed = False
        self._left = iter(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._left:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_an_upload_is_counted_as_it_is_taken(autojump_clock: MockClock) -> None:
    del autojump_clock
    uploads, source = Uploads(), Chunks([bytes(30), bytes(20)])
    with uploads.counted("/a", lambda _=0: source, 100, base_bytes=40) as body:
        assert uploads.under_way() == [Sent("/a", 40, 100, 0.0)]
        chunks = body()
        assert len(await anext(chunks)) == 30
        await trio.sleep(10)
        assert uploads.under_way() == [Sent("/a", 70, 100, 3.0)]
        # Begun again further on, after a broken connection: that was not sent now.
        chunks = body(45)
        assert uploads.under_way() == [Sent("/a", 85, 100, 3.0)]
        await anext(chunks)
        assert uploads.under_way() == [Sent("/a", 100, 100, 5.0)]
        await chunks.aclose()  # type: ignore[attr-defined]  # as the transport does
        assert source.closed
    assert uploads.under_way() == []


@pytest.mark.shared_engine
def test_a_download_is_shown_while_it_runs(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB)
    with StandIn() as server:
        server.account(USER).write("/large", data)
        stage = VfsStage(tmp_path / "engine", server)
        hold = server.faults.add(Hold(), method="GET", path="/large$", times=None)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(read(stage.root(), "large")))
        reader.start()
        assert hold.wait_hit()
        running = stage.call_sync(lambda: stage.engine.fetcher.under_way())  # noqa: PLW0108  # on the loop
        assert running
        assert {it.done_bytes for it in running} == {0}
        assert all(0 < it.size_bytes <= len(data) for it in running)
        hold.release()
        reader.join(60)
        assert found == [data]
        stage.wait(lambda: not stage.engine.fetcher.under_way())
        stage.close()
