"""After the machine has slept: what was put off is done, what counted as fresh is asked for again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from cloudfs.engine import Engine, EngineConfig, open_engine
from cloudfs.errors import NotAuthenticated, Unreachable
from cloudfs.metadata.changes import NullSink
from cloudfs.remote.protocol import Space
from cloudfs.sync.connectivity import State
from cloudfs.types import ROOT, Kind, RemotePath
from tests.concurrency.test_clocks import PretendedClocks
from tests.model.fake_remote import FakeRemote
from tests.model.virtual import run_virtually

SOON_S = 10.0


class Bed:
    """An engine on a machine that sleeps when told to."""

    def __init__(self) -> None:
        self.remote = FakeRemote()
        self.clocks = PretendedClocks()
        self.reconnected = 0
        self.moved = trio.Event()
        self.engine: Engine

    async def network(self, changed: Callable[[], None]) -> None:
        while True:
            await self.moved.wait()
            self.moved = trio.Event()
            changed()

    def reconnect(self) -> None:
        self.reconnected += 1

    def names(self) -> set[str]:
        return {child.name for child in self.engine.store.nodes.children(ROOT)}

    async def sleeps(self, seconds: float = 3600.0) -> None:
        self.clocks.slept_s += seconds
        await trio.sleep(SOON_S)


def play(folder: Path, story: Callable[[Bed], Awaitable[None]], quota: Space | None = None) -> None:
    for name in ("state", "cache"):
        (folder / name).mkdir()
    config = EngineConfig(
        state=folder / "state",
        cache=folder / "cache",
        cache_bytes=1 << 26,
        cache_keep_free_bytes=0,
        listing_ttl_s=100_000.0,
    )

    async def main() -> None:
        bed = Bed()
        bed.remote.quota = quota
        async with open_engine(
            config,
            bed.remote,
            NullSink(),
            clocks=bed.clocks,
            reconnect=bed.reconnect,
            network=bed.network,
        ) as bed.engine:
            await trio.sleep(SOON_S)
            await story(bed)

    run_virtually(main, 1)


def test_an_outage_before_the_sleep_puts_nothing_off_after_it(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bed.engine.connectivity.failed(Unreachable("no network", retry_after_s=50_000))
        bed.engine.tree.create(bed.engine.tree.folder(ROOT), "new", Kind.FOLDER, None)
        await trio.sleep(100)
        assert bed.remote.other.tree() == {}
        await bed.sleeps()
        assert bed.remote.other.tree() == {"/new": None}
        assert bed.engine.connectivity.state is State.ONLINE
        assert bed.reconnected == 1

    play(tmp_path, story)


def test_a_failed_step_is_tried_at_once(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        node = bed.engine.tree.create(bed.engine.tree.folder(ROOT), "new", Kind.FOLDER, None)
        bed.engine.worker.troubles.add(node, Unreachable("it was down", retry_after_s=50_000))
        await trio.sleep(100)
        assert bed.remote.other.tree() == {}
        await bed.sleeps()
        assert bed.remote.other.tree() == {"/new": None}

    play(tmp_path, story)


def test_folders_are_asked_for_again(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.engine.lister.refresh(ROOT)
        bed.remote.other.mkdir("/theirs")
        await bed.engine.lister.ensure_listed(ROOT)
        await trio.sleep(SOON_S)
        assert bed.names() == set()
        await bed.sleeps()
        assert bed.names() == {"theirs"}  # the root, by itself

    play(tmp_path, story)


def test_another_network_has_everything_tried_and_looked_at_at_once(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bed.remote.other.mkdir("/theirs")
        bed.engine.connectivity.failed(Unreachable("no network", retry_after_s=50_000))
        bed.engine.tree.create(bed.engine.tree.folder(ROOT), "ours", Kind.FOLDER, None)
        await trio.sleep(100)
        assert "/ours" not in bed.remote.other.tree()
        bed.moved.set()
        await trio.sleep(SOON_S)
        assert bed.reconnected == 1
        assert bed.remote.other.tree() == {"/ours": None, "/theirs": None}
        assert bed.names() == {"ours", "theirs"}

    play(tmp_path, story)


def test_a_set_clock_makes_what_was_fresh_old(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        await bed.engine.lister.refresh(ROOT)
        bed.remote.other.mkdir("/theirs")
        bed.clocks.stepped_s -= 86_400
        await trio.sleep(SOON_S)
        assert bed.reconnected == 0
        await bed.engine.lister.ensure_listed(ROOT)
        await trio.sleep(SOON_S)
        assert bed.names() == {"theirs"}

    play(tmp_path, story)


def test_a_refused_login_is_not_tried_again_by_waking_up(tmp_path: Path) -> None:
    async def story(bed: Bed) -> None:
        bed.engine.connectivity.failed(NotAuthenticated("no", status=401))
        before = len(bed.remote.methods())
        await bed.sleeps()
        assert bed.engine.connectivity.state is State.NEEDS_LOGIN
        assert len(bed.remote.methods()) == before

    play(tmp_path, story)


def test_the_start_asks_for_little(tmp_path: Path) -> None:
    """What the server is, the space, and the root and what is in it: that it is seen first is no change of it."""

    async def story(bed: Bed) -> None:
        await trio.sleep(SOON_S)
        assert bed.remote.methods() == ["connect /", "stat /", "stat /", "list_folder /"]

    play(tmp_path, story, quota=Space(1000, 10))


@pytest.mark.parametrize("how", ["sleeps", "clock is set"])
def test_an_answer_from_before_is_not_taken_for_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It would seem that a version was seen when its second was over, and a condition on its ETag to be safe."""

    async def story(bed: Bed) -> None:
        store, lister, answers = bed.engine.store, bed.engine.lister, set[str]()

        def disturbed(name: str) -> None:
            ask = getattr(bed.remote, name)

            async def answered(path: RemotePath) -> object:
                answer = await ask(path)
                answers.add(name)
                if how == "sleeps":
                    bed.clocks.slept_s += 3600.0
                else:
                    bed.clocks.stepped_s += 3600.0
                return answer

            monkeypatch.setattr(bed.remote, name, answered)

        await bed.engine.watcher.look()
        await lister.refresh(ROOT)
        root = store.nodes.get(ROOT)
        assert root is not None
        assert root.listed_there is not None
        await trio.sleep(60)
        seen_s = store.root_seen_there_s
        assert seen_s is not None
        disturbed("stat")
        await trio.sleep(200)
        assert answers == {"stat"}
        assert store.root_seen_there_s == seen_s
        disturbed("list_folder")
        await lister.refresh(ROOT)
        root = store.nodes.get(ROOT)
        assert root is not None
        assert root.listed_there is None

    play(tmp_path, story)
