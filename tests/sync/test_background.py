"""What the engine does by itself: an unexpected failure of it is logged, and ends nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cloudfs import config
from cloudfs.account import composing, logins
from cloudfs.account.protocol import Launch
from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.fuse.operations import KernelCaching
from cloudfs.metadata.changes import NullSink
from cloudfs.remote.protocol import Features, Space
from cloudfs.types import ROOT, Kind
from tests.concurrency.test_clocks import PretendedClocks
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually


class Broken(FakeRemote):
    """Has a bug in some questions."""

    def __init__(self, *questions: str) -> None:
        super().__init__()
        self._questions = questions

    async def connect(self) -> Features:
        self._trip("connect")
        return await super().connect()

    async def space(self) -> Space | None:
        self._trip("space")
        return await super().space()

    def _trip(self, question: str) -> None:
        if question in self._questions:
            message = f"a bug in {question}"
            raise ValueError(message)


def play(
    folder: Path, remote: FakeRemote, story: Callable[[Engine, PretendedClocks], Awaitable[None]]
) -> None:
    for name in ("state", "cache"):
        (folder / name).mkdir()
    config = EngineConfig(
        state=folder / "state", cache=folder / "cache", cache_bytes=1 << 26, cache_keep_free_bytes=0
    )

    async def main() -> None:
        clocks = PretendedClocks()
        async with open_engine(config, remote, NullSink(), clocks=clocks) as engine:
            await story(engine, clocks)

    run_virtually(main, 1)


@pytest.mark.expect_log("the first request failed in an unexpected way")
@pytest.mark.expect_log("the first request after a change failed in an unexpected way")
def test_a_bug_in_the_first_request_ends_nothing_else(tmp_path: Path) -> None:
    remote = Broken("connect")

    async def story(engine: Engine, clocks: PretendedClocks) -> None:
        await trio.sleep(10)
        clocks.slept_s += 3600
        await trio.sleep(10)
        engine.tree.create(engine.tree.folder(ROOT), "new", Kind.FOLDER, None)
        await trio.sleep(60)

    play(tmp_path, remote, story)
    assert remote.other.tree() == {"/new": None}


@pytest.mark.expect_log("a question for the quota failed in an unexpected way")
@pytest.mark.expect_log("the first request failed in an unexpected way")
def test_a_bug_in_the_quota_ends_nothing_else(tmp_path: Path) -> None:
    remote = Broken("space")

    async def story(engine: Engine, clocks: PretendedClocks) -> None:
        del clocks
        for name in ("one", "two"):
            await trio.sleep(100)
            engine.filesystem.space()
            engine.tree.create(engine.tree.folder(ROOT), name, Kind.FOLDER, None)
        await trio.sleep(100)

    play(tmp_path, remote, story)
    assert remote.other.tree() == {"/one": None, "/two": None}


@pytest.mark.expect_log("worker login crashed; it starts again")
async def test_a_bug_in_looking_for_a_new_login_ends_no_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = config.Folders.from_environment({"CLOUDFS_HOME": str(tmp_path)})
    folders.create()
    account = config.Account(url="http://127.0.0.1:9/", user="alice", features={"name": "nothing"})
    config.write_secret(folders, "a", "secret")
    config.save_account(folders, "a", account)
    looked = [trio.Event(), trio.Event()]

    async def look(_: object) -> None:
        if not looked[0].is_set():
            looked[0].set()
            message = "a bug in reading the secret"
            raise ValueError(message)
        looked[1].set()

    monkeypatch.setattr(logins, "_FOLLOW_S", 0.01)
    monkeypatch.setattr(logins.Login, "reread_if_refused", look)
    async with composing.compose(Launch("a", account, folders), NullSink(), KernelCaching()):
        with trio.fail_after(60):
            await looked[1].wait()
