"""A sleep between a look and the bulk upload that relies on it: whatever another client has put there by then stays."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from cloudfs.concurrency.clocks import Continuity
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.metadata.changes import NullSink
from cloudfs.sync.eagerness import WorkerConfig
from cloudfs.types import ROOT, Ino, RemotePath, Stored
from tests.concurrency.test_clocks import PretendedClocks
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually
from tests.sync.bulk import ONE_BY_ONE, WITH_BULK, Watched, kinds

NIGHT_S = 8 * 3600.0
THEIRS = b"theirs, written in the night"


async def save(engine: Engine, folder: Ino, name: str) -> None:
    fs = engine.filesystem
    opened, _ = await fs.create(folder, name.encode(), 0o644, os.O_RDWR | os.O_CREAT)
    await fs.write(opened.handle, 0, b"ours")
    await fs.flush(opened.handle)
    await fs.release(opened.handle)


class Lid:
    """A machine that is closed in the midst of something, during which another client writes a file."""

    def __init__(self, remote: FakeRemote) -> None:
        self.remote = remote
        self.clocks = PretendedClocks()

    async def close(self) -> None:
        self.clocks.slept_s += NIGHT_S
        self.remote.other.write("/new/5", THEIRS)


def play(folder: Path, story: Callable[[Engine, Lid, Ino], Awaitable[None]], remote: FakeRemote) -> None:
    """Tell a story of a new folder; in the end both files of the same name have to be there."""
    for name in ("state", "cache"):
        (folder / name).mkdir()
    config = EngineConfig(
        state=folder / "state",
        cache=folder / "cache",
        cache_bytes=1 << 26,
        cache_keep_free_bytes=0,
        worker=WorkerConfig(quiet_s=0.5),
    )
    lid = Lid(remote)

    async def main() -> None:
        async with open_engine(config, remote, NullSink(), clocks=lid.clocks) as engine:
            made = await engine.filesystem.mkdir(ROOT, b"new", 0o755)
            await story(engine, lid, made.ino)
            with trio.fail_after(600):
                await engine.worker.wait_synced(lambda _: True)

    run_virtually(main, 1)
    contents = [content for path, content in remote.other.tree().items() if path.startswith("/new/")]
    assert sorted(it for it in contents if it is not None) == sorted([b"ours"] * 8 + [THEIRS])


def test_in_the_folder_that_was_made_just_before(tmp_path: Path) -> None:
    remote = FakeRemote(features=WITH_BULK)

    async def story(engine: Engine, lid: Lid, folder: Ino) -> None:
        for number in range(8):
            await save(engine, folder, str(number))
        while kinds(remote)["make_folder"] == 0:
            await trio.sleep(0.01)
        assert kinds(remote)["put_bulk"] == 0
        await lid.close()

    play(tmp_path, story, remote)


def test_while_the_answer_of_the_server_lay_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the folder was made: eight hours ago."""
    remote = FakeRemote(features=WITH_BULK)

    async def story(engine: Engine, lid: Lid, folder: Ino) -> None:
        make = remote.make_folder

        async def make_and_sleep(path: RemotePath, *, mtime_s: int | None = None) -> Stored:
            stored = await make(path, mtime_s=mtime_s)
            await lid.close()
            engine.lister.undisturbed_since()  # somebody else notices first
            await trio.sleep(0.01)
            return stored

        monkeypatch.setattr(remote, "make_folder", make_and_sleep)
        for number in range(8):
            await save(engine, folder, str(number))

    play(tmp_path, story, remote)


def test_right_after_the_look(tmp_path: Path) -> None:
    remote = Watched(features=ONE_BY_ONE)

    async def story(engine: Engine, lid: Lid, folder: Ino) -> None:
        await engine.worker.wait_synced(lambda _: True)
        await trio.sleep(60)  # what was known is old
        remote.after_look["/new"] = lid.close
        for number in range(8):
            await save(engine, folder, str(number))

    play(tmp_path, story, remote)


def test_while_it_waits_to_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind the first request after a while, which finds out whether the login is good."""
    remote = FakeRemote(features=WITH_BULK)

    async def story(engine: Engine, lid: Lid, folder: Ino) -> None:
        asking, awake = engine.connectivity.asking, [True]

        @asynccontextmanager
        async def asking_late(*, patient: bool = False) -> AsyncIterator[Callable[[], None]]:
            if awake and engine.worker.in_flight() and kinds(remote)["make_folder"]:
                awake.clear()
                await lid.close()
            async with asking(patient=patient) as answered:
                yield answered

        monkeypatch.setattr(engine.connectivity, "asking", asking_late)
        for number in range(8):
            await save(engine, folder, str(number))

    play(tmp_path, story, remote)


def test_a_sleep_is_seen_at_once() -> None:
    clocks = PretendedClocks()

    async def main() -> None:
        continuity = Continuity(clocks)
        await trio.sleep(1)
        assert continuity.since() < 0
        before = trio.current_time()
        clocks.slept_s += 10.0
        seen = continuity.since()
        assert before < seen < before + 0.001
        await trio.sleep(5)
        assert continuity.since() == seen, "told of once"
        clocks.slept_s -= 20.0  # the reading before was held up between two calls
        assert continuity.since() == seen
        clocks.slept_s += 10.0
        assert continuity.since() > trio.current_time()

    run_virtually(main, 1)
