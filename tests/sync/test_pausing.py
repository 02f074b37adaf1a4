"""Pausing: nothing is sent, also after a restart; what is under way is broken off; reading goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from cloudfs.errors import Unreachable
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import State
from cloudfs.sync.pausing import Pause
from tests.functional.drivers import read, write
from tests.functional.stages import USER, VfsStage
from tests.servers import Hold, StandIn

MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


async def test_it_is_kept_in_the_database(store: Store) -> None:
    ended = 0

    def end() -> None:
        nonlocal ended
        ended += 1

    pause = Pause(store, end)
    assert not pause.is_on
    pause.end()
    pause.begin()
    since = pause.since
    pause.begin()
    assert pause.since == since
    again = Pause(store, end)
    assert again.since == since
    again.end()
    assert ended == 1
    assert not Pause(store).is_on


async def test_what_is_under_way_is_broken_off(store: Store) -> None:
    pause = Pause(store)
    pause.begin()
    with pytest.raises(Unreachable) as refused, pause.breakable("/file"):
        pytest.fail("it was begun")
    assert refused.value.unsent
    pause.end()
    with pause.breakable("/file"):
        await trio.lowlevel.checkpoint()
    with pytest.raises(Unreachable) as broken, pause.breakable("/file"):
        pause.begin()
        await trio.sleep_forever()
    assert not broken.value.unsent


@pytest.mark.shared_engine
def test_nothing_is_sent_until_it_ends_also_after_a_restart(tmp_path: Path, server: StandIn) -> None:
    there = server.account(USER)
    there.write("/theirs", b"theirs")
    stage = VfsStage(tmp_path / "engine", server)
    stage.call_sync(lambda: stage.engine.pause.begin())  # noqa: PLW0108  # the engine is another one later
    write(stage.root(), "mine", b"mine")
    stage.root().mkdir("folder")
    assert read(stage.root(), "theirs") == b"theirs"
    stage.close()
    stage = VfsStage(tmp_path / "engine", server)
    assert stage.call_sync(lambda: stage.engine.pause.is_on)
    assert stage.call_sync(lambda: stage.engine.store.nodes.count_dirty()) == 2  # noqa: PLW0108  # as above
    assert there.tree() == {"theirs": b"theirs"}
    stage.call_sync(lambda: stage.engine.pause.end())  # noqa: PLW0108  # as above
    stage.sync()
    assert there.tree() == {"theirs": b"theirs", "mine": b"mine", "folder": None}
    stage.close()


@pytest.mark.shared_engine
def test_an_upload_that_is_broken_off_goes_on_later(tmp_path: Path, server: StandIn) -> None:
    data = os.urandom(12 * MIB)
    stage = VfsStage(tmp_path / "engine", server)
    upload = server.faults.add(Hold(), method="PUT", times=1)
    write(stage.root(), "large", data)
    assert upload.wait_hit()
    stage.call_sync(lambda: stage.engine.pause.begin())  # noqa: PLW0108  # as above
    stage.wait(lambda: not stage.engine.worker.in_flight())
    # The server was not taken to be away, and the file is as it was.
    assert stage.call_sync(lambda: stage.engine.connectivity.state) is State.ONLINE
    assert read(stage.root(), "large") == data
    upload.release()
    stage.call_sync(lambda: stage.engine.pause.end())  # noqa: PLW0108  # as above
    stage.sync()
    assert server.account(USER).read("/large") == data
    stage.close()


@pytest.mark.shared_engine
def test_what_is_written_meanwhile_goes_up_at_the_end(tmp_path: Path, server: StandIn) -> None:
    first, second = os.urandom(12 * MIB), os.urandom(3 * MIB)
    stage = VfsStage(tmp_path / "engine", server)
    upload = server.faults.add(Hold(), method="PUT", times=1)
    write(stage.root(), "large", first)
    assert upload.wait_hit()
    stage.call_sync(lambda: stage.engine.pause.begin())  # noqa: PLW0108  # as above
    stage.wait(lambda: not stage.engine.worker.in_flight())
    file = stage.root().open("large", os.O_RDWR)
    file.write(MIB, second)
    file.close()
    upload.release()
    stage.call_sync(lambda: stage.engine.pause.end())  # noqa: PLW0108  # as above
    stage.sync()
    expected = first[:MIB] + second + first[4 * MIB :]
    assert server.account(USER).read("/large") == expected
    assert read(stage.root(), "large") == expected
    stage.close()
