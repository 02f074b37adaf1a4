"""Pausing: nothing is sent, also after a restart; what is under way is broken off; reading goes on."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cloudfs.errors import Unreachable
from cloudfs.remote.protocol import Condition
from cloudfs.store.store import Store
from cloudfs.sync.connectivity import Connectivity, State
from cloudfs.sync.gate import GatedRemote
from cloudfs.sync.pausing import Pause
from cloudfs.types import RemotePath
from tests.functional.drivers import read, write
from tests.functional.stages import USER, VfsStage
from tests.model.fake_remote import FakeRemote, FaultKind
from tests.servers import Hold, StandIn
from tests.sync.plain_remote import PlainRemote

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
    assert ended == 2  # once for each kind of work
    assert not Pause(store).is_on


async def test_what_is_under_way_is_broken_off(store: Store) -> None:
    pause = Pause(store)
    pause.begin()
    with pytest.raises(Unreachable) as refused, pause.sending.breakable("/file"):
        pytest.fail("it was begun")
    assert refused.value.unsent
    pause.end()
    with pause.sending.breakable("/file"):
        await trio.lowlevel.checkpoint()
    with pytest.raises(Unreachable) as broken, pause.sending.breakable("/file"):
        pause.begin()
        await trio.sleep_forever()
    assert not broken.value.unsent


async def test_what_may_be_broken_off_only_later_is_so_then(store: Store) -> None:
    pause, may_break = Pause(store), False
    with pytest.raises(Unreachable), pause.sending.breakable("/file", may_break=lambda: may_break):
        pause.begin()
        await trio.lowlevel.checkpoint()
        may_break = True
        pause.sending.review()
        await trio.sleep_forever()


@pytest.mark.parametrize("kind", [FakeRemote, PlainRemote])
async def test_only_what_may_be_cut_is_broken_off(
    store: Store, autojump_clock: MockClock, kind: type[FakeRemote]
) -> None:
    """What arrived of an overwrite in one request would be the file until the pause is over."""
    del autojump_clock
    remote = kind()
    remote.other.write("/file", b"theirs")
    remote.faults.next("put", [FaultKind.SLOW])
    gate, pause = GatedRemote(remote, Connectivity(returned=lambda: None)), Pause(store)
    gate.pause = pause
    gate.goes_in_pieces = lambda name: name == "name" and kind is FakeRemote
    version = (await gate.stat(RemotePath("/file"))).version

    async def content(start: int = 0) -> AsyncIterator[bytes]:
        yield b"ours"[start:]

    async def begin() -> None:
        await trio.sleep(1)
        pause.begin()

    async def save() -> bool:
        try:
            await gate.put(RemotePath("/file"), content, 4, Condition(version), name="name")
        except Unreachable:
            return False
        return True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
        assert await save() is (kind is PlainRemote)
    with pytest.raises(Unreachable) as refused:
        await gate.put(RemotePath("/new"), content, 4, Condition(absent=True))
    assert refused.value.unsent


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
